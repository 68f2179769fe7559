// Route: which versions of a model answer a request that names none. A value: it is changed as a whole, in one step.
//
// A request names an exact version, or a label ("@champion", "@challenger"), or nothing. Nothing means the champion; but of the
// entities in the canary the challenger answers. Who is in it depends on the model, the challenger and the entity's id alone: the
// same on every server and after every start, and a larger share only adds entities.
#pragma once

#include <string>
#include <string_view>

#include "core/base/limits.h"

namespace assay {

struct Route {
  std::string champion;       // a version
  std::string challenger;     // a version; empty: none
  std::string entity;         // whose id decides about the canary. Empty with a share of 0
  double canary_share = 0.0;  // of the entities, 0..1
};

inline constexpr std::string_view kChampionLabel = "@champion";
inline constexpr std::string_view kChallengerLabel = "@challenger";

// Whether this entity is among the first `share` (0..1) of all, in an order of its own for each model and `salt`. No state, no key.
// A name or id that is longer than limits allow is cut.
bool is_in_share(std::string_view model, std::string_view salt, std::string_view id, double share) noexcept;

}  // namespace assay
