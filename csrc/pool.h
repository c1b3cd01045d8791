// Threads that share the parts of a job. The caller always works too; helpers join when there is more than one part.
#pragma once

#include <atomic>
#include <functional>

#include "team.h"
#include "workspace.h"

namespace bothways {

class Pool {
 public:
  // At most `threads` threads work in this pool at any moment, however many callers there are. Throws
  // std::runtime_error if that many can't be started.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Calls part(number, workspace) for every number below `parts` and returns when all are done. No two threads hold the
  // same workspace at once; what is in it is left over from earlier parts. The first exception thrown by a part is
  // thrown again here, after the others have ended.
  void run(int parts, const std::function<void(int number, Workspace&)>& part);

  // Calls part(member, first, own) once in each thread of a team, at most `most` and as many as have no work at this
  // moment: with the first member's workspace, which all share, and its own. Returns when all are done. If one throws,
  // the others throw where they wait for it, and the first exception is thrown again here.
  void run_team(int most, const std::function<void(const Member&, Workspace& first, Workspace& own)>& part);

 private:
  struct State;
  State& state();

  const int threads_;
  std::atomic<State*> state_;
};

}  // namespace bothways
