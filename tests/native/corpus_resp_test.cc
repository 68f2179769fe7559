// The kept corpus of tests/fuzz/resp_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/resp_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_resp_corpus_holds) { CHECK(corpus::replay("resp") > 0); }

ASSAY_TEST_MAIN
