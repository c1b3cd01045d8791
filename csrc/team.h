// Threads that take the same tokens through the layers together: each computes its share of every step, then all wait.
#pragma once

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

namespace bothways {

// Lets the processor give its core to the other hyperthread for a moment.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Looks so many times whether done() holds. Gives way to other threads now and then: the one that is waited for may have been
// put on the same core.
template <class Done>
bool spin(int times, Done done) {
  for (int i = 0; i < times; i++) {
    if (done()) return true;
    if (i % 64 == 63) std::this_thread::yield();
    pause();
  }
  return false;
}

// Waits until done() holds: spins for a while, as what one waits for is microseconds away, then sleeps on `changed`,
// which whoever makes done() true increments and notifies.
template <class Done>
void spin_then_sleep(std::atomic<int>& changed, int spins, Done done) {
  if (spin(spins, done)) return;
  for (;;) {
    const int seen = changed.load();
    if (done()) return;
    changed.wait(seen);
  }
}

// What the members of one team share.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}

  // Returns when all members have called it. Throws if one has failed, so that none waits for ever.
  void wait() {
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == size_) {
      arrived_ = 0;
      advance();
    } else {
      spin_then_sleep(round_, kSpins, [&] { return round_.load() != round || failed_; });
    }
    if (failed_) throw std::runtime_error("another thread of the team failed");
  }

  // Wakes the others for ever: the caller will not come.
  void fail() {
    failed_ = true;
    advance();
  }

 private:
  static constexpr int kSpins = 2000;

  void advance() {
    round_++;
    round_.notify_all();
  }

  const int size_;
  std::atomic<int> arrived_{0}, round_{0};
  std::atomic<bool> failed_{false};
};

struct Range {
  int begin, end;
};

// One thread's place in its team; a team of one never waits.
struct Member {
  int number = 0, size = 1;
  Barrier* barrier = nullptr;

  // This member's part of `count`, cut at multiples of `step`.
  Range share(int count, int step = 1) const {
    const int steps = (count + step - 1) / step;
    const auto cut = [&](int i) { return (int)std::min<long>(count, (long)steps * i / size * step); };
    return {cut(number), cut(number + 1)};
  }

  void wait() const {
    if (size > 1) barrier->wait();
  }
};

}  // namespace bothways
