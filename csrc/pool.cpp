#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace bothways {
namespace {

using Part = std::function<void(int, Workspace&)>;
using TeamPart = std::function<void(const Member&, Workspace&, Workspace&)>;

// How often a thread without work looks for some before it sleeps: 0.2 to 0.3 ms, so that one short text after another finds
// it awake.
constexpr int kIdleSpins = 5000;

// The first exception of several threads.
class Failure {
 public:
  void keep(std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    if (!first_) first_ = failure;
  }
  void rethrow() {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

// Parts that any number of threads may take one by one.
struct Job {
  const int parts;
  const Part& part;
  std::atomic<int> next{0};
  int helpers = 0;  // guarded by the state's mutex
  Failure failure{};

  bool has_more() const { return next.load(std::memory_order_relaxed) < parts; }

  void work(Workspace& workspace) {
    try {
      for (int number; (number = next.fetch_add(1)) < parts;) part(number, workspace);
    } catch (...) {
      next = parts;
      failure.keep(std::current_exception());
    }
  }
};

// One part that a fixed number of threads work on together. Every seat is kept for a thread that has nothing else to do.
struct TeamJob {
  const TeamPart& part;
  const std::vector<Workspace*> workspaces;  // one for each member
  Barrier barrier;
  std::atomic<int> done{0};
  int seats_taken = 1;  // guarded by the state's mutex; the caller has the first
  Failure failure{};

  TeamJob(const TeamPart& part, std::vector<Workspace*> workspaces)
      : part(part), workspaces(std::move(workspaces)), barrier(size()) {}

  int size() const { return (int)workspaces.size(); }

  void work(int seat) {
    try {
      part({seat, size(), &barrier}, *workspaces[0], *workspaces[seat]);
    } catch (...) {
      failure.keep(std::current_exception());
      barrier.fail();
    }
  }

  // The last a member does; the job may be gone afterwards.
  void leave() {
    done++;
    done.notify_all();
  }

  void wait_for_all() {
    spin_then_sleep(done, kIdleSpins, [&] { return done.load() == size(); });
  }
};

// How many forks lie between this process and the one that loaded the library.
int forks() {
  static std::atomic<int> count{0};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { count++; });
  (void)registered;
  return count.load(std::memory_order_relaxed);
}

}  // namespace

struct Pool::State {
  explicit State(int threads) : workspaces(threads) {
    for (Workspace& workspace : workspaces) free.push_back(&workspace);
    try {
      for (int i = 1; i < threads; i++) helpers.emplace_back([this] { help(); });
    } catch (const std::system_error& error) {
      end();
      throw std::runtime_error(std::to_string(threads) + " threads can't be started here: " + error.what());
    }
  }

  ~State() { end(); }

  void end() {
    {
      std::lock_guard lock(mutex);
      closing = true;
    }
    changed.notify_all();
    for (std::thread& helper : helpers) helper.join();
  }

  void run(Job& job) {
    std::unique_lock lock(mutex);
    if (job.parts > 1) {
      jobs.push_back(&job);
      announce();
    }
    changed.wait(lock, [&] { return !free.empty(); });
    work(job, lock);
    std::erase(jobs, &job);
    changed.wait(lock, [&] { return job.helpers == 0; });
  }

  void run(int most, const TeamPart& part, std::optional<TeamJob>& team) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !free.empty(); });
    const int size = 1 + std::max(0, std::min({most - 1, idle, (int)free.size() - 1}));
    team.emplace(part, std::vector<Workspace*>(free.end() - size, free.end()));
    free.resize(free.size() - size);
    if (size > 1) {
      idle -= size - 1;
      teams.push_back(&*team);
      announce();
    }
    lock.unlock();
    team->work(0);
    team->leave();
    team->wait_for_all();
    lock.lock();
    free.insert(free.end(), team->workspaces.begin(), team->workspaces.end());
    changed.notify_all();
  }

  void help() {
    std::unique_lock lock(mutex);
    idle++;
    for (;;) {
      Job* job = nullptr;  // found once: its parts run out without the lock
      const auto has_work = [&] {
        job = free.empty() ? nullptr : open_job();
        return closing || !teams.empty() || job;
      };
      if (!has_work()) {
        const int seen = announced.load();
        lock.unlock();
        spin(kIdleSpins, [&] { return announced.load(std::memory_order_relaxed) != seen; });
        lock.lock();
      }
      changed.wait(lock, has_work);
      if (closing) return;
      if (!teams.empty()) {
        sit_down(lock);
        continue;
      }
      idle--;
      job->helpers++;
      work(*job, lock);
      job->helpers--;
      idle++;
      changed.notify_all();
    }
  }

  Job* open_job() {
    const auto open = std::find_if(jobs.begin(), jobs.end(), [](Job* job) { return job->has_more(); });
    return open == jobs.end() ? nullptr : *open;
  }

  // Tells idle helpers, spinning or asleep, of work.
  void announce() {
    announced++;
    changed.notify_all();
  }

  // Takes the next seat of the oldest team, which was counted as no longer idle when the team was formed.
  void sit_down(std::unique_lock<std::mutex>& lock) {
    TeamJob& team = *teams.front();
    const int seat = team.seats_taken++;
    if (team.seats_taken == team.size()) teams.pop_front();
    lock.unlock();
    team.work(seat);
    lock.lock();
    idle++;
    team.leave();
  }

  // Holds a workspace while it works on the job, without the lock.
  void work(Job& job, std::unique_lock<std::mutex>& lock) {
    Workspace* const workspace = free.back();
    free.pop_back();
    lock.unlock();
    job.work(*workspace);
    lock.lock();
    free.push_back(workspace);
    changed.notify_all();
  }

  const int made_after = forks();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Workspace> workspaces;  // one for each thread that may work
  std::vector<Workspace*> free;
  std::deque<Job*> jobs;       // those that helpers may join, oldest first
  std::deque<TeamJob*> teams;  // those with seats left, oldest first
  int idle = 0;                // helpers that neither work nor have a seat kept for them
  std::atomic<int> announced{0};
  std::vector<std::thread> helpers;
  bool closing = false;
};

Pool::Pool(int threads) : threads_(threads), state_(new State(threads)) {}

Pool::~Pool() {
  State* state = state_.load();
  // A forked child has the parent's state but none of its threads: there is nothing to join.
  if (state->made_after == forks()) delete state;
}

// After a fork the child starts anew: the helpers are gone, the mutex may be locked for ever, and a workspace may be half
// changed. The parent's state is left alone, as taking it apart would wait for threads that don't exist.
Pool::State& Pool::state() {
  State* current = state_.load();
  if (current->made_after == forks()) return *current;
  auto fresh = std::make_unique<State>(threads_);
  if (state_.compare_exchange_strong(current, fresh.get())) return *fresh.release();
  return *current;
}

void Pool::run(int parts, const Part& part) {
  if (parts <= 0) return;
  Job job{parts, part};
  state().run(job);
  job.failure.rethrow();
}

void Pool::run_team(int most, const TeamPart& part) {
  std::optional<TeamJob> team;
  state().run(most, part, team);
  team->failure.rethrow();
}

}  // namespace bothways
