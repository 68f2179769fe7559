// The kept corpus of tests/fuzz/transport_message_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/transport_message_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_message_corpus_holds) { CHECK(corpus::replay("transport_message") > 0); }

ASSAY_TEST_MAIN
