// Chains of BRANCH_EQ: nodes that ask for one feature in turn, each where the one before it said no.
//
// ONNX Runtime may make one question of such nodes where they lead to the same (core/providers/cpu/ml/tree_ensemble_common.h). For the
// same it takes subtrees whose leaves have the same first weights, whoever these are for, and it does not look at where what is missing
// goes: of a chain, its first node alone says so. Where that makes a difference the trees are not what their nodes say.
#pragma once

#include "core/base/status.h"
#include "core/explain/tree_ensemble.h"

namespace assay::explain {

bool has_equal_chain(const TreeParts& parts) noexcept;

// For trees whose leaves have one weight each. kExplainUnsupported: a chain of which ONNX Runtime makes something else.
Status check_equal_chains(const TreeEnsemble& trees);

}  // namespace assay::explain
