// The kept corpus of tests/fuzz/event_json_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/event_json_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_event_json_corpus_holds) { CHECK(corpus::replay("event_json") > 0); }

ASSAY_TEST_MAIN
