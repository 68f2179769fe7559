// The kept corpus of tests/fuzz/transport_frames_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/transport_frames_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_frame_corpus_holds) { CHECK(corpus::replay("transport_frames") > 0); }

ASSAY_TEST_MAIN
