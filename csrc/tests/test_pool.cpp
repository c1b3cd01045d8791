// The pool: every part once, workspaces never shared, failures and forks survived.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "pool.h"

using bothways::Pool;
using bothways::Workspace;

namespace {

// Watches one pool: how many parts run at this moment, and who holds which workspace.
class Watch {
 public:
  explicit Watch(int threads) : threads_(threads) {}

  void enter(const Workspace& workspace) {
    std::unique_lock lock(mutex_);
    CHECK(held_.insert(&workspace).second);
    seen_.insert(&workspace);
    CHECK((int)seen_.size() <= threads_, (int)seen_.size(), threads_);
    lock.unlock();
    const int now = ++running_;
    CHECK(now <= threads_, now, threads_);
    int before = most_.load();
    while (before < now && !most_.compare_exchange_weak(before, now)) {
    }
  }
  void leave(const Workspace& workspace) {
    running_--;
    std::lock_guard lock(mutex_);
    held_.erase(&workspace);
  }
  int running() const { return running_; }
  int most() const { return most_; }

 private:
  const int threads_;
  std::mutex mutex_;
  std::set<const Workspace*> held_, seen_;  // those in use, and all
  std::atomic<int> running_{0}, most_{0};
};

void pause(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

// Runs a job and checks that each part ran once and that its writes are seen here.
void check_job(Pool& pool, int parts) {
  std::vector<int> runs(parts);  // no atomics: run() itself must order these
  pool.run(parts, [&](int number, Workspace&) { runs[number]++; });
  for (int number = 0; number < parts; number++) CHECK(runs[number] == 1, number, runs[number], parts);
}

void test_every_part_runs_once() {
  for (int threads : {1, 2, 3, 5}) {
    check::at("every part once, %d threads", threads);
    Pool pool(threads);
    CHECK(pool.threads() == threads);
    for (int parts : {1, 2, 3, 7, 100, 1000}) check_job(pool, parts);
    pool.run(0, [](int, Workspace&) { CHECK(!"a job without parts ran one"); });
    for (int i = 0; i < 300; i++) check_job(pool, i % 4 + 1);
  }
}

void test_helpers_join() {
  check::at("helpers join");
  Pool pool(3);
  Watch watch(3);
  std::atomic<int> arrived{0};
  // No part ends before all three have begun, so this comes back only if three threads work at once.
  pool.run(3, [&](int, Workspace& workspace) {
    watch.enter(workspace);
    for (arrived++; arrived < 3;) pause(50);
    watch.leave(workspace);
  });
  CHECK(watch.most() == 3, watch.most());
}

void test_many_callers_keep_to_the_threads() {
  for (int threads : {1, 2, 3}) {
    check::at("8 callers, %d threads", threads);
    Pool pool(threads);
    Watch watch(threads);
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 8; caller++)
      callers.emplace_back([&, caller] {
        for (int round = 0; round < 40; round++) {
          const int parts = (caller + round) % 5 + 1;
          std::vector<int> runs(parts);
          pool.run(parts, [&](int number, Workspace& workspace) {
            watch.enter(workspace);
            runs[number]++;
            if (round % 4 == 0) pause(20);
            watch.leave(workspace);
          });
          for (int count : runs) CHECK(count == 1, count, parts);
        }
      });
    for (std::thread& caller : callers) caller.join();
    CHECK(watch.running() == 0);
  }
}

void test_exceptions_come_out() {
  for (int threads : {1, 2, 4})
    for (int failing : {0, 1, 7, 19}) {
      check::at("exception in part %d, %d threads", failing, threads);
      Pool pool(threads);
      Watch watch(threads);
      for (int round = 0; round < 20; round++) {
        std::string message;
        try {
          pool.run(20, [&](int number, Workspace& workspace) {
            watch.enter(workspace);
            if (number > failing && round % 2) pause(20);
            watch.leave(workspace);
            if (number == failing) throw std::runtime_error("part " + std::to_string(number));
          });
        } catch (const std::runtime_error& error) {
          message = error.what();
        }
        CHECK(message == "part " + std::to_string(failing), message);
        CHECK(watch.running() == 0, watch.running());
        check_job(pool, 10);
      }
    }
}

void test_one_exception_of_many_comes_out() {
  check::at("every part throws");
  Pool pool(3);
  for (int round = 0; round < 50; round++) {
    int caught = 0;
    try {
      pool.run(9, [](int number, Workspace&) { throw number; });
    } catch (int number) {
      caught++;
      CHECK(number >= 0 && number < 9, number);
    }
    CHECK(caught == 1);
  }
  check_job(pool, 10);
}

// A failing job ends only its own: others that share the pool go on.
void test_exceptions_stay_with_their_job() {
  check::at("exceptions among callers");
  Pool pool(2);
  std::vector<std::thread> callers;
  std::atomic<int> caught{0};
  for (int caller = 0; caller < 4; caller++)
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 50; round++) {
        if (caller % 2) {
          check_job(pool, 5);
          continue;
        }
        try {
          pool.run(5, [](int number, Workspace&) {
            if (number == 2) throw 2;
          });
        } catch (int) {
          caught++;
        }
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(caught == 100, caught.load());
}

// Runs `child` in a forked process, where a failed check or a hang of 20 s is a bad end, and returns whether it ended
// well.
template <class Child>
bool ends_well_after_fork(Child child) {
  std::fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(20);
    const long failed_before = check::failed;
    child();
    // Not exit(): a child leaves what its parent allocated, which a leak check would take for its own.
    std::fflush(stdout);
    _exit(check::failed != failed_before);
  }
  int status = 0;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void use_from_many_threads(Pool& pool) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; i++) callers.emplace_back([&] { check_job(pool, 10); });
  for (std::thread& caller : callers) caller.join();
}

void test_fork_with_idle_helpers() {
  check::at("fork, helpers idle");
  for (int threads : {1, 2, 4}) {
    auto pool = std::make_unique<Pool>(threads);
    check_job(*pool, 10);
    CHECK(ends_well_after_fork([&] {
      for (int i = 0; i < 10; i++) check_job(*pool, 10);
      pool.reset();
    }));
    CHECK(ends_well_after_fork([&] {  // several threads meet the parent's state at once
      use_from_many_threads(*pool);
      pool.reset();
    }));
    CHECK(ends_well_after_fork([&] { pool.reset(); }));  // a child that never uses the pool
    CHECK(ends_well_after_fork([&] {                     // a child of a child
      check_job(*pool, 10);
      CHECK(ends_well_after_fork([&] { check_job(*pool, 10); }));
      check_job(*pool, 10);
    }));
    check_job(*pool, 10);
  }
}

void test_fork_during_a_job() {
  check::at("fork, a job under way");
  for (int round = 0; round < 5; round++) {
    auto pool = std::make_unique<Pool>(2);
    std::atomic<bool> go_on{false};
    std::atomic<int> begun{0}, done{0};
    std::thread other([&, shared = pool.get()] {
      shared->run(6, [&](int, Workspace&) {
        for (begun++; !go_on;) pause(50);
        done++;
      });
    });
    while (begun < 2) pause(50);  // all slots are taken
    CHECK(ends_well_after_fork([&] {
      for (int i = 0; i < 10; i++) check_job(*pool, 10);
      pool.reset();
    }));
    go_on = true;
    other.join();
    CHECK(done == 6, done.load());
    check_job(*pool, 10);
  }
}

// The mutex may be held by any thread at the moment of the fork.
void test_fork_in_a_storm() {
  check::at("fork, many short jobs under way");
  Pool pool(3);
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; i++)
    callers.emplace_back([&] {
      while (!stop) pool.run(3, [](int, Workspace&) {});
    });
  for (int i = 0; i < 20; i++) CHECK(ends_well_after_fork([&] { check_job(pool, 10); }));
  stop = true;
  for (std::thread& caller : callers) caller.join();
}

void test_destruction() {
  check::at("destruction");
  for (int i = 0; i < 100; i++) {
    const Pool never_used(4);
    Pool used(3);
    used.run(i % 4, [](int, Workspace&) {});
  }
  CHECK(true);
}

}  // namespace

int main() {
  test_every_part_runs_once();
  test_helpers_join();
  test_many_callers_keep_to_the_threads();
  test_exceptions_come_out();
  test_one_exception_of_many_comes_out();
  test_exceptions_stay_with_their_job();
  test_fork_with_idle_helpers();
  test_fork_during_a_job();
  test_fork_in_a_storm();
  test_destruction();
  return check::report();
}
