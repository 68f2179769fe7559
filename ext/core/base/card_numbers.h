// Card numbers in text that is about to be kept: replaced by tokens.
//
// 13 to 19 digits whose check digit fits (Luhn, ISO/IEC 7812-1), with what people write between groups; and a longer run of digits
// that holds a number of a known issuer, as one with a date before it or a counter behind: the whole run. Of random numbers of 13 to
// 19 digits about a tenth look like one too and are replaced as well: they stay findable, for the same text gives the same token.
// Nothing is ever refused for it here.
#pragma once

#include <string>
#include <string_view>

namespace assay {

// Whether it is worth a closer look: most ids have fewer digits than a card number.
bool may_hold_card(std::string_view text) noexcept;

// Whether a number of a known issuer, with its check digit, stands anywhere in a run of digits. REQUIRES: '0' to '9' alone.
bool holds_card(std::string_view digits) noexcept;

// Appends `text` to `out`, with "card-" and 24 hex digits (BLAKE2b-96 of the digits, keyed) in place of each card number. True: there
// was one. `key`: 1 to 64 bytes; without it nobody can tell a token's number by trying all.
bool append_tokenised(std::string_view text, std::string_view key, std::string& out);

}  // namespace assay
