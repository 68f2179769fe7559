// The kept corpus of tests/fuzz/infer_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/infer_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_corpus_of_model_infer_holds) { CHECK(corpus::replay("infer") > 0); }

ASSAY_TEST_MAIN
