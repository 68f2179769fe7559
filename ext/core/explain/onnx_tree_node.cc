#include "core/explain/onnx_tree_node.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "core/explain/equal_chains.h"

namespace assay::explain {
namespace {

using Integers = std::vector<int64_t>;
using Numbers = std::vector<double>;
using Texts = std::vector<std::string_view>;

constexpr size_t kTreeNodesMax = 4'000'000;

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

// The attributes of one node. What is damaged is refused at the first such.
class Attributes {
 public:
  explicit Attributes(const OnnxNode& node) : node_(node) {}

  Integers integers(const char* name) {
    Integers values;
    const OnnxAttribute* const attribute = node_.find(name);
    if (attribute != nullptr && !attribute->integers(&values)) damage(name);
    return values;
  }
  // `name`, or `name`_as_tensor.
  Numbers numbers(const std::string& name) {
    Numbers values;
    const OnnxAttribute* attribute = node_.find(name);
    if (attribute == nullptr) attribute = node_.find(name + "_as_tensor");
    if (attribute == nullptr) return values;
    bool are_doubles = false;
    if (!attribute->numbers(&values, &are_doubles)) damage(name.c_str());
    has_doubles_ = has_doubles_ || are_doubles;
    return values;
  }
  Texts texts(const char* name) {
    Texts values;
    const OnnxAttribute* const attribute = node_.find(name);
    if (attribute != nullptr && !attribute->texts(&values)) damage(name);
    return values;
  }
  std::string_view text(const char* name, std::string_view otherwise) {
    std::string_view value;
    const OnnxAttribute* const attribute = node_.find(name);
    if (attribute != nullptr && !attribute->text(&value)) damage(name);
    return value.empty() ? otherwise : value;
  }
  int64_t integer(const char* name, int64_t otherwise) {
    int64_t value = otherwise;
    const OnnxAttribute* const attribute = node_.find(name);
    if (attribute != nullptr && !attribute->integer(&value)) damage(name);
    return value;
  }

  Status status() const {
    if (!damaged_.empty()) return refused("the trees' attribute " + damaged_ + " cannot be read");
    return has_doubles_ ? refused("the trees compute in double; those in float32 are explained") : Status();
  }

 private:
  void damage(const char* name) {
    if (damaged_.empty()) damaged_ = name;
  }

  const OnnxNode& node_;
  std::string damaged_;
  bool has_doubles_ = false;
};

// What no feature has for a number becomes one that none has: TreeEnsemble says so.
uint32_t feature_of(int64_t id) noexcept { return id < 0 || id > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(id); }

bool parse_branch(std::string_view mode, Branch* branch) noexcept {
  constexpr std::pair<std::string_view, Branch> kModes[] = {
      {"BRANCH_LT", Branch::kLess},    {"BRANCH_LEQ", Branch::kLessOrEqual},
      {"BRANCH_GT", Branch::kGreater}, {"BRANCH_GTE", Branch::kGreaterOrEqual},
      {"BRANCH_EQ", Branch::kEqual},   {"BRANCH_NEQ", Branch::kNotEqual}};
  for (const auto& [text, value] : kModes) {
    if (text != mode) continue;
    *branch = value;
    return true;
  }
  return false;
}

// Sum or average: of the trees' leaves.
Status divide(std::string_view aggregate, TreeParts* parts) {
  if (aggregate == "SUM") return Status();
  if (aggregate != "AVERAGE") return refused("the trees are not summed: " + std::string(aggregate == "MIN" ? "MIN" : "MAX"));
  for (double& leaf : parts->leaves) leaf /= static_cast<double>(std::max<size_t>(parts->roots.size(), 1));
  return Status();
}

Status refused_chain() {
  return refused("nodes with BRANCH_EQ that ask for one feature in turn, above leaves for several targets");
}

// --- what a number of the output is made of

enum class Transform : uint8_t { kNone, kLogistic, kSoftmax, kSoftmaxZero, kProbit };

constexpr int64_t kNobody = -1;

// The margin that is explained: of one target, or of one less another's.
struct Reading {
  int64_t target = 0, less = kNobody;
  Link link = Link::kIdentity;

  double of(int64_t of_target, double weight) const noexcept {
    if (of_target == target) return weight;
    return of_target == less && less != kNobody ? -weight : 0.0;
  }
};

// Each of `columns` targets has its own margin. What softmax makes of two is the sigmoid of their difference; what it makes of more is no
// function of one sum.
Status read_margins(Transform transform, size_t columns, size_t column, Reading* reading) {
  reading->target = static_cast<int64_t>(column);
  if (transform == Transform::kProbit) return refused("the trees' post_transform is PROBIT");
  if (columns == 1 || transform == Transform::kNone) return Status();  // a margin alone is left as it is
  if (transform == Transform::kSoftmaxZero) return refused("the trees' post_transform is SOFTMAX_ZERO");
  reading->link = Link::kLogistic;
  if (transform == Transform::kLogistic) return Status();
  if (columns > 2) return refused("the trees' post_transform is SOFTMAX of more than two classes, which no single sum decides");
  reading->less = static_cast<int64_t>(1 - column);
  return Status();
}

// --- ai.onnx.ml 1 and 3: lists by node, and by weight of a leaf

// Whether a row's leaves have a weight for a target.
enum class Weighed : uint8_t { kNever, kAlways, kByRow };

class Listed {
 public:
  Listed(const OnnxNode& node, const std::string& prefix) : attributes_(node) {
    tree_ids_ = attributes_.integers("nodes_treeids");
    node_ids_ = attributes_.integers("nodes_nodeids");
    features_ = attributes_.integers("nodes_featureids");
    modes_ = attributes_.texts("nodes_modes");
    thresholds_ = attributes_.numbers("nodes_values");
    if_true_ = attributes_.integers("nodes_truenodeids");
    if_false_ = attributes_.integers("nodes_falsenodeids");
    missing_true_ = attributes_.integers("nodes_missing_value_tracks_true");
    weight_trees_ = attributes_.integers((prefix + "_treeids").c_str());
    weight_nodes_ = attributes_.integers((prefix + "_nodeids").c_str());
    weight_targets_ = attributes_.integers((prefix + "_ids").c_str());
    weights_ = attributes_.numbers(prefix + "_weights");
    bases = attributes_.numbers("base_values");
    post_transform = attributes_.text("post_transform", "NONE");
    aggregate = attributes_.text("aggregate_function", "SUM");
    class_count = std::max(attributes_.integers("classlabels_int64s").size(), attributes_.texts("classlabels_strings").size());
    target_count = static_cast<size_t>(std::clamp<int64_t>(attributes_.integer("n_targets", 1), 0, 1 << 20));
  }

  Status check() const {
    if (Status status = attributes_.status(); !status.ok()) return status;
    const size_t nodes = tree_ids_.size();
    if (nodes > kTreeNodesMax) return refused("the trees have more than " + std::to_string(kTreeNodesMax) + " nodes");
    const bool are_nodes_whole = node_ids_.size() == nodes && features_.size() == nodes && modes_.size() == nodes &&
                                 thresholds_.size() == nodes && if_true_.size() == nodes && if_false_.size() == nodes &&
                                 (missing_true_.empty() || missing_true_.size() == nodes);
    const size_t weights = weights_.size();
    const bool are_weights_whole =
        weight_trees_.size() == weights && weight_nodes_.size() == weights && weight_targets_.size() == weights;
    return are_nodes_whole && are_weights_whole ? Status() : refused("the lists of the trees' nodes or weights differ in length");
  }

  // Always: every leaf of one of the trees has one.
  Weighed weighed(int64_t target) const {
    std::set<std::pair<int64_t, int64_t>> weighed;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (weight_targets_[i] == target) weighed.insert({weight_trees_[i], weight_nodes_[i]});
    }
    if (weighed.empty()) return Weighed::kNever;
    bool is_whole = false;
    for (size_t i = 0; i < tree_ids_.size(); ++i) {
      if (i == 0 || tree_ids_[i] != tree_ids_[i - 1]) {
        if (is_whole) return Weighed::kAlways;
        is_whole = true;
      }
      if (modes_[i] == "LEAF") is_whole = is_whole && weighed.count({tree_ids_[i], node_ids_[i]}) != 0;
    }
    return is_whole ? Weighed::kAlways : Weighed::kByRow;
  }
  bool are_targets_below(size_t end) const noexcept {
    return std::all_of(weight_targets_.begin(), weight_targets_.end(),
                       [&](int64_t id) { return id >= 0 && static_cast<uint64_t>(id) < end; });
  }
  bool has_leaf_with_two_weights() const {
    std::set<std::pair<int64_t, int64_t>> seen;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (!seen.emplace(weight_trees_[i], weight_nodes_[i]).second) return true;
    }
    return false;
  }
  // Whether each leaf has one weight, and all leaves of a tree theirs for the same target.
  bool are_leaves_plain() const {
    std::map<int64_t, int64_t> target_of_tree;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (target_of_tree.emplace(weight_trees_[i], weight_targets_[i]).first->second != weight_targets_[i]) return false;
    }
    const auto leaves = std::count(modes_.begin(), modes_.end(), "LEAF");
    return !has_leaf_with_two_weights() && static_cast<size_t>(leaves) == weights_.size();
  }
  bool are_all_positive() const noexcept {
    return std::all_of(weights_.begin(), weights_.end(), [](double weight) { return weight >= 0.0; });
  }

  // Nodes, and leaves with what they give to the margin.
  Status make(const Reading& reading, TreeParts* parts) const {
    std::map<std::pair<int64_t, int64_t>, int32_t> place;  // a node, or ~leaf
    for (size_t i = 0; i < tree_ids_.size(); ++i) {
      const bool is_leaf = modes_[i] == "LEAF";
      const auto at = is_leaf ? ~static_cast<int32_t>(parts->leaves.size()) : static_cast<int32_t>(parts->nodes.size());
      if (!place.emplace(std::make_pair(tree_ids_[i], node_ids_[i]), at).second)
        return refused("two nodes of a tree have one number");
      if (i == 0 || tree_ids_[i] != tree_ids_[i - 1]) parts->roots.push_back(at);
      if (is_leaf) {
        parts->leaves.push_back(0.0);
      } else {
        parts->nodes.emplace_back();
      }
    }
    for (size_t i = 0, next = 0; i < tree_ids_.size(); ++i) {
      if (modes_[i] == "LEAF") continue;
      TreeNode& node = parts->nodes[next++];
      if (!parse_branch(modes_[i], &node.branch)) return refused("a node has a mode that is not explained");
      const auto if_true = place.find({tree_ids_[i], if_true_[i]}), if_false = place.find({tree_ids_[i], if_false_[i]});
      if (if_true == place.end() || if_false == place.end()) return refused("a node of a tree leads nowhere");
      node.feature = feature_of(features_[i]);
      node.threshold = static_cast<float>(thresholds_[i]);
      node.is_missing_true = !missing_true_.empty() && missing_true_[i] != 0;
      node.if_true = if_true->second;
      node.if_false = if_false->second;
    }
    for (size_t i = 0; i < weights_.size(); ++i) {
      const auto found = place.find({weight_trees_[i], weight_nodes_[i]});
      if (found == place.end()) return refused("a weight belongs to no node");
      if (found->second < 0) parts->leaves[static_cast<size_t>(~found->second)] += reading.of(weight_targets_[i], weights_[i]);
    }
    return divide(aggregate, parts);
  }

  Numbers bases;
  std::string_view post_transform, aggregate;
  size_t class_count = 0, target_count = 0;

 private:
  Attributes attributes_;
  Integers tree_ids_, node_ids_, features_, if_true_, if_false_, missing_true_;
  Texts modes_;
  Numbers thresholds_;
  Integers weight_trees_, weight_nodes_, weight_targets_;
  Numbers weights_;
};

// In the order of ONNX Runtime's numbers, by which it reads TreeEnsemble's too; ONNX's own have SOFTMAX and LOGISTIC the other way round.
constexpr std::pair<std::string_view, Transform> kTransforms[] = {{"NONE", Transform::kNone},
                                                                  {"LOGISTIC", Transform::kLogistic},
                                                                  {"SOFTMAX", Transform::kSoftmax},
                                                                  {"SOFTMAX_ZERO", Transform::kSoftmaxZero},
                                                                  {"PROBIT", Transform::kProbit}};

Status parse_transform(std::string_view name, Transform* transform) {
  for (const auto& [text, value] : kTransforms) {
    if (text != name) continue;
    *transform = value;
    return Status();
  }
  return refused("the trees' post_transform is unknown");
}

// One margin for two classes: column 1 has it, column 0 what is left of it. No other transformation than LOGISTIC is applied to it.
Status read_shared_margin(const Listed& listed, Transform transform, size_t column, Reading* reading) {
  if (listed.bases.size() > 1) return refused("base_values: two for one margin");
  if (transform == Transform::kProbit) return refused("the trees' post_transform is PROBIT");
  reading->target = 0;
  if (transform == Transform::kLogistic) {
    reading->link = column == 1 ? Link::kLogistic : Link::kLogisticNegative;
  } else if (listed.are_all_positive()) {  // they are taken for probabilities
    reading->link = column == 1 ? Link::kIdentity : Link::kComplement;
  } else {
    reading->link = column == 1 ? Link::kIdentity : Link::kNegative;
  }
  return Status();
}

Status read_two_classes(const Listed& listed, Transform transform, size_t column, Reading* reading) {
  switch (listed.weighed(1)) {
    case Weighed::kNever: return read_shared_margin(listed, transform, column, reading);
    case Weighed::kAlways: break;
    case Weighed::kByRow: return refused("it depends on the row whether the trees give both classes a margin, or one");
  }
  if (!listed.bases.empty()) return refused("base_values of two classes that have a margin each");
  return read_margins(transform, 2, column, reading);
}

Status read_listed(const OnnxNode& node, bool is_classifier, size_t column, TreeParts* parts, Link* link) {
  const Listed listed(node, is_classifier ? "class" : "target");
  if (Status status = listed.check(); !status.ok()) return status;
  const size_t columns = is_classifier ? listed.class_count : listed.target_count;
  if (column >= columns)
    return refused("the trees have " + std::to_string(columns) + " targets, the score is number " + std::to_string(column));
  if (is_classifier && columns == 1) return refused("the trees are a classifier of one class");
  if (!listed.are_targets_below(columns)) return refused("a weight is for a target that is not there");
  if (columns == 1 && listed.has_leaf_with_two_weights()) return refused("a leaf has two weights for the only target");
  Transform transform = Transform::kNone;
  if (Status status = parse_transform(listed.post_transform, &transform); !status.ok()) return status;
  Reading reading;
  const bool is_of_two = is_classifier && columns == 2;
  if (Status status =
          is_of_two ? read_two_classes(listed, transform, column, &reading) : read_margins(transform, columns, column, &reading);
      !status.ok()) {
    return status;
  }
  if (!listed.bases.empty()) {
    if (listed.bases.size() != (is_of_two ? 1 : columns)) return refused("base_values: not one for each target");
    parts->base = listed.bases[static_cast<size_t>(reading.target)];
    if (reading.less != kNobody) parts->base -= listed.bases[static_cast<size_t>(reading.less)];
    // A base is added to what a row has of the target; a classifier of more than two gives it to every row.
    const bool is_always_given = (is_classifier && !is_of_two) || parts->base == 0.0;
    if (!is_always_given && columns > 1 && listed.weighed(reading.target) != Weighed::kAlways) {
      return refused("the trees have a base value, and some rows no weight that it is added to");
    }
  }
  *link = reading.link;
  if (Status status = listed.make(reading, parts); !status.ok()) return status;
  return has_equal_chain(*parts) && !listed.are_leaves_plain() ? refused_chain() : Status();
}

// --- ai.onnx.ml 5: nodes and leaves apart

constexpr std::string_view kAggregates[] = {"AVERAGE", "SUM", "MIN", "MAX"};
constexpr Branch kBranches[] = {Branch::kLessOrEqual, Branch::kLess,  Branch::kGreaterOrEqual,
                                Branch::kGreater,     Branch::kEqual, Branch::kNotEqual};

Status read_apart(const OnnxNode& node, size_t column, TreeParts* parts, Link* link) {
  Attributes attributes(node);
  const Integers features = attributes.integers("nodes_featureids"), roots = attributes.integers("tree_roots");
  const Integers if_true = attributes.integers("nodes_truenodeids"), if_false = attributes.integers("nodes_falsenodeids");
  const Integers is_true_leaf = attributes.integers("nodes_trueleafs"), is_false_leaf = attributes.integers("nodes_falseleafs");
  const Integers missing_true = attributes.integers("nodes_missing_value_tracks_true"),
                 targets = attributes.integers("leaf_targetids");
  const Numbers modes = attributes.numbers("nodes_modes"), thresholds = attributes.numbers("nodes_splits");
  const Numbers weights = attributes.numbers("leaf_weights");
  const int64_t post_transform = attributes.integer("post_transform", 0), aggregate = attributes.integer("aggregate_function", 1);
  const int64_t target_count = attributes.integer("n_targets", 1);
  if (Status status = attributes.status(); !status.ok()) return status;
  const size_t nodes = features.size();
  if (nodes > kTreeNodesMax) return refused("the trees have more than " + std::to_string(kTreeNodesMax) + " nodes");
  if (if_true.size() != nodes || if_false.size() != nodes || is_true_leaf.size() != nodes || is_false_leaf.size() != nodes ||
      modes.size() != nodes || thresholds.size() != nodes || (!missing_true.empty() && missing_true.size() != nodes) ||
      targets.size() != weights.size()) {
    return refused("the lists of the trees' nodes or leaves differ in length");
  }
  if (column >= static_cast<uint64_t>(std::max<int64_t>(target_count, 0))) return refused("the trees have not so many targets");
  if (std::any_of(targets.begin(), targets.end(), [&](int64_t id) { return id < 0 || id >= target_count; })) {
    return refused("a weight is for a target that is not there");
  }
  if (post_transform < 0 || post_transform >= static_cast<int64_t>(std::size(kTransforms))) {
    return refused("the trees' post_transform is unknown");
  }
  Reading reading;
  if (Status status = read_margins(kTransforms[post_transform].second, static_cast<size_t>(target_count), column, &reading);
      !status.ok()) {
    return status;
  }
  if (aggregate < 0 || aggregate > 3) return refused("the trees' aggregate_function is unknown");

  const auto child = [&](int64_t at, bool is_leaf) -> int32_t {
    const size_t count = is_leaf ? weights.size() : nodes;
    if (at < 0 || static_cast<uint64_t>(at) >= count) return static_cast<int32_t>(nodes);  // nowhere: TreeEnsemble says so
    return is_leaf ? ~static_cast<int32_t>(at) : static_cast<int32_t>(at);
  };
  for (size_t i = 0; i < nodes; ++i) {
    if (!(modes[i] >= 0.0 && modes[i] < static_cast<double>(std::size(kBranches))))  // NaN too
      return refused("a node has a mode that is not explained");
    parts->nodes.push_back({feature_of(features[i]), static_cast<float>(thresholds[i]), kBranches[static_cast<size_t>(modes[i])],
                            !missing_true.empty() && missing_true[i] != 0, child(if_true[i], is_true_leaf[i] != 0),
                            child(if_false[i], is_false_leaf[i] != 0)});
  }
  for (size_t i = 0; i < weights.size(); ++i) parts->leaves.push_back(reading.of(targets[i], weights[i]));
  for (const int64_t root : roots) parts->roots.push_back(child(root, false));
  if (has_equal_chain(*parts) && std::adjacent_find(targets.begin(), targets.end(), std::not_equal_to<>()) != targets.end()) {
    return refused_chain();
  }
  *link = reading.link;
  return divide(kAggregates[aggregate], parts);
}

}  // namespace

Status read_tree_node(const OnnxNode& node, size_t column, TreeParts* parts, Link* link) {
  if (node.op == "TreeEnsemble") return read_apart(node, column, parts, link);
  return read_listed(node, node.op == "TreeEnsembleClassifier", column, parts, link);
}

}  // namespace assay::explain
