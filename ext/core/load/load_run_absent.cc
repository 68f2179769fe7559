// What stands in for this room where libnghttp2 was not there when assay was built.
#include "core/load/load_run.h"

namespace assay::load {

class LoadRun::Impl {};

LoadRun::LoadRun(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadRun::~LoadRun() = default;

Status LoadRun::create(LoadOptions, std::unique_ptr<LoadRun>*) noexcept {
  return Status(Code::kIo, "this assay was built without libnghttp2; install its development files and build assay again");
}

// Nobody has one.
Status LoadRun::start() noexcept { return Status(Code::kInternal); }
LoadProgress LoadRun::progress() const noexcept { return {}; }
void LoadRun::stop() noexcept {}
bool LoadRun::wait(int64_t) noexcept { return true; }
LoadResult LoadRun::result() noexcept { return {}; }
size_t LoadRun::message_count() const noexcept { return 0; }
int64_t LogHistogram::quantile(double, uint64_t) const noexcept { return -1; }
std::vector<LogHistogram::Bucket> LogHistogram::buckets() const { return {}; }

}  // namespace assay::load
