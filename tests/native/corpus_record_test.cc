// The kept corpus of tests/fuzz/record_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/record_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_record_corpus_holds) { CHECK(corpus::replay("record") > 0); }

ASSAY_TEST_MAIN
