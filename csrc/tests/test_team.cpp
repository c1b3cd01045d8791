// Teams: every member once, barriers order what they write, a failure reaches everybody, nobody waits for ever.
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "pool.h"

using namespace bothways;

namespace {

// Runs a team whose members write, wait, and read what the others wrote, many times. Returns the team's size.
int check_team(Pool& pool, int rounds) {
  std::vector<int> written(64), runs(64);  // no atomics: the barrier itself must order these
  std::set<const Workspace*> own;
  int size = 0;
  pool.run_team(64, [&](const Member& member, Workspace& first, Workspace& mine) {
    CHECK((member.number == 0) == (&first == &mine), member.number);
    CHECK(member.number >= 0 && member.number < member.size, member.number, member.size);
    runs[member.number]++;
    if (member.number == 0) size = member.size;
    for (int round = 1; round <= rounds; round++) {
      written[member.number] = round;
      member.wait();
      for (int i = 0; i < member.size; i++) CHECK(written[i] == round, i, written[i], round);
      member.wait();
    }
  });
  CHECK(size >= 1 && size <= pool.threads(), size);
  for (int i = 0; i < 64; i++) CHECK(runs[i] == (i < size), i, runs[i], size);
  return size;
}

void wait_until_idle() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

void test_members() {
  for (int threads : {1, 2, 3, 5}) {
    check::at("members of %d threads", threads);
    Pool pool(threads);
    wait_until_idle();
    for (int i = 0; i < 20; i++) {
      const int size = check_team(pool, 30);
      CHECK(i || size == threads, size, threads);  // all helpers are idle at first
    }
  }
}

void test_a_team_is_no_larger_than_asked_for() {
  check::at("most");
  Pool pool(4);
  for (int most : {0, 1, 2, 3, 9}) {
    wait_until_idle();
    pool.run_team(most, [&](const Member& member, Workspace&, Workspace&) {
      CHECK(member.size == std::min(4, std::max(1, most)), member.size, most);
    });
  }
}

void test_shares() {
  check::at("shares");
  for (int count : {0, 1, 5, 31, 32, 33, 384, 1000})
    for (int step : {1, 16, 32})
      for (int size : {1, 2, 3, 7}) {
        int next = 0;
        for (int number = 0; number < size; number++) {
          const Range range = Member{number, size, nullptr}.share(count, step);
          CHECK(range.begin == next && range.begin <= range.end, count, step, size, number);
          CHECK(range.begin % step == 0 || range.begin == count, range.begin, step);
          next = range.end;
        }
        CHECK(next == count, next, count);
      }
}

// A member that throws ends the whole team, whether the others wait already or come later.
void test_exceptions() {
  Pool pool(3);
  for (int thrower = 0; thrower < 3; thrower++)
    for (int round : {0, 1, 7}) {
      wait_until_idle();
      check::at("exception of member %d in round %d", thrower, round);
      std::string caught;
      try {
        pool.run_team(64, [&](const Member& member, Workspace&, Workspace&) {
          for (int i = 0; i < 10; i++) {
            if (i == round && member.number == thrower % member.size) throw std::runtime_error("broken");
            member.wait();
          }
        });
      } catch (const std::exception& error) {
        caught = error.what();
      }
      CHECK(!caught.empty(), caught);
      check_team(pool, 3);  // the pool is as good as new
    }
}

// Teams and jobs from many callers at once: never more than the pool's threads at work, and all come to an end.
void test_many_callers() {
  check::at("many callers");
  for (int threads : {1, 2, 3}) {
    Pool pool(threads);
    std::atomic<int> working{0}, done{0};
    const auto enter = [&] { CHECK(++working <= threads, working.load(), threads); };
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 6; caller++)
      callers.emplace_back([&, caller] {
        for (int i = 0; i < 200; i++) {
          if ((i + caller) % 2) {
            pool.run(3, [&](int, Workspace&) { enter(), working--, done++; });
          } else {
            pool.run_team(64, [&](const Member& member, Workspace&, Workspace&) {
              enter();
              member.wait();
              member.wait();
              working--;
              if (member.number == 0) done++;
            });
          }
        }
      });
    for (std::thread& caller : callers) caller.join();
    CHECK(done == 6 * 100 * 4, done.load());
  }
}

void test_fork() {
  check::at("fork");
  Pool pool(3);
  check_team(pool, 5);
  const pid_t child = fork();
  if (child == 0) {
    check_team(pool, 5);
    wait_until_idle();
    const int size = check_team(pool, 5);
    _exit(size == 3 && !check::failed ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, status);
  check_team(pool, 5);
}

// Helpers look for work for some microseconds only: an idle pool uses no processor time.
void test_idle_pools_sleep() {
  check::at("idle");
  Pool pool(3);
  check_team(pool, 50);
  const auto used = [] {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = used();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double seconds = used() - before;
  CHECK(seconds < 0.03, seconds);
}

}  // namespace

int main() {
  test_members();
  test_a_team_is_no_larger_than_asked_for();
  test_shares();
  test_exceptions();
  test_many_callers();
  test_fork();
  test_idle_pools_sleep();
  return check::report();
}
