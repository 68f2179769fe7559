// The kept corpus of tests/fuzz/audit_fuzz.cc: a wrong property aborts, a wild read is the sanitizer's.
#include "../fuzz/audit_fuzz.cc"
#include "check.h"
#include "corpus.h"

TEST(the_kept_audit_corpus_holds) { CHECK(corpus::replay("audit") > 0); }

ASSAY_TEST_MAIN
