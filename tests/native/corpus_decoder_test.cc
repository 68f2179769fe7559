// The kept corpus of tests/fuzz/decoder_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/decoder_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_decoder_corpus_holds) { CHECK(corpus::replay("decoder") > 0); }

ASSAY_TEST_MAIN
