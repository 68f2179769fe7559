// The kept corpus of tests/fuzz/onnx_trees_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/onnx_trees_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_onnx_trees_corpus_holds) { CHECK(corpus::replay("onnx_trees") > 0); }

ASSAY_TEST_MAIN
