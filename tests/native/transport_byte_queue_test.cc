// transport/byte_queue: what goes in comes out, in its order, and memory follows what is in it.
#include "core/transport/byte_queue.h"

#include "check.h"

using namespace assay;

namespace {

std::string take(ByteQueue* queue, size_t bytes_max) {
  std::string taken(bytes_max, '?');
  taken.resize(queue->take(reinterpret_cast<uint8_t*>(&taken[0]), bytes_max));
  return taken;
}

}  // namespace

TEST(bytes_come_out_in_their_order) {
  ByteQueue queue;
  CHECK_EQ(take(&queue, 9), "");
  queue.append("abc");
  queue.end()->append("de");
  CHECK_EQ(queue.size(), 5u);
  CHECK_EQ(take(&queue, 0), "");
  CHECK_EQ(take(&queue, 2), "ab");
  queue.append("fg");
  CHECK_EQ(take(&queue, 4), "cdef");
  CHECK_EQ(take(&queue, 9), "g");
  CHECK_EQ(queue.size(), 0u);
  queue.append("h");
  queue.clear();
  CHECK_EQ(take(&queue, 1), "");
}

// A stream whose reader is always a little behind: once what it had read stayed for as long as it was.
TEST(memory_does_not_grow_while_it_never_runs_empty) {
  ByteQueue queue;
  const std::string piece(1000, 'x');
  queue.append(piece);
  for (int i = 0; i < 10'000; ++i) {
    queue.append(piece);
    CHECK_EQ(take(&queue, piece.size()), piece);
  }
  CHECK_EQ(queue.size(), piece.size());
  CHECK(queue.end()->capacity() <= 8 * piece.size());
}

ASSAY_TEST_MAIN
