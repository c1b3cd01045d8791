#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace bothways {
namespace {

struct Job {
  const int parts;
  const std::function<void(int, Workspace&)>& part;
  std::atomic<int> next{0};
  int helpers = 0;  // guarded by the state's mutex, as is failure
  std::exception_ptr failure{};

  bool has_more() const { return next.load(std::memory_order_relaxed) < parts; }

  std::exception_ptr work(Workspace& workspace) {
    try {
      for (int number; (number = next.fetch_add(1)) < parts;) part(number, workspace);
    } catch (...) {
      next = parts;
      return std::current_exception();
    }
    return nullptr;
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
      changed.notify_all();
    }
    changed.wait(lock, [&] { return !free.empty(); });
    work(job, lock);
    std::erase(jobs, &job);
    changed.wait(lock, [&] { return job.helpers == 0; });
  }

  void help() {
    std::unique_lock lock(mutex);
    for (;;) {
      auto open = jobs.end();
      changed.wait(lock, [&] {
        open = std::find_if(jobs.begin(), jobs.end(), [](Job* job) { return job->has_more(); });
        return closing || (open != jobs.end() && !free.empty());
      });
      if (closing) return;
      Job& job = **open;
      job.helpers++;
      work(job, lock);
      job.helpers--;
      changed.notify_all();
    }
  }

  // Holds a workspace while it works on the job, without the lock.
  void work(Job& job, std::unique_lock<std::mutex>& lock) {
    Workspace* const workspace = free.back();
    free.pop_back();
    lock.unlock();
    std::exception_ptr failure = job.work(*workspace);
    lock.lock();
    free.push_back(workspace);
    if (failure && !job.failure) job.failure = failure;
    changed.notify_all();
  }

  const int made_after = forks();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Workspace> workspaces;  // one for each thread that may work
  std::vector<Workspace*> free;
  std::deque<Job*> jobs;  // those that helpers may join, oldest first
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

void Pool::run(int parts, const std::function<void(int, Workspace&)>& part) {
  if (parts <= 0) return;
  Job job{parts, part};
  state().run(job);
  if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace bothways
