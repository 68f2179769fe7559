#include "core/features/resp_mget.h"

#include "core/features/resp_scanner.h"

namespace assay {
namespace {

void append_text(std::string_view text, std::string* command) {
  *command += '$';
  *command += std::to_string(text.size());
  *command += "\r\n";
  *command += text;
  *command += "\r\n";
}

// Takes the next line without its end off `rest`. REQUIRES a whole answer: there is one.
std::string_view take_line(std::string_view& rest) noexcept {
  const size_t end = rest.find("\r\n");
  if (end == std::string_view::npos) return {};
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end + 2);
  return line;
}

// The length in a line that begins with `type`. False: it has none.
bool read_head(std::string_view line, char type, int64_t* length) noexcept {
  return !line.empty() && line[0] == type && read_resp_length(line.substr(1), length);
}

}  // namespace

void write_mget(const std::vector<std::string>& keys, std::string* command) {
  command->assign("*").append(std::to_string(keys.size() + 1)).append("\r\n");
  append_text("MGET", command);
  for (const std::string& key : keys) append_text(key, command);
}

bool read_mget(std::string_view answer, std::vector<FetchedRecord>* records) noexcept {
  int64_t count = 0, size = 0;
  if (!read_head(take_line(answer), '*', &count) || count != static_cast<int64_t>(records->size())) return false;
  for (FetchedRecord& record : *records) {
    record = FetchedRecord();
    const std::string_view line = take_line(answer);
    if (line == "_") continue;  // null in RESP 3
    if (!read_head(line, '$', &size)) return false;
    if (size < 0) continue;  // null in RESP 2
    if (answer.size() < static_cast<size_t>(size) + 2) return false;
    record.bytes = answer.substr(0, static_cast<size_t>(size));
    answer.remove_prefix(static_cast<size_t>(size) + 2);
  }
  return answer.empty();
}

}  // namespace assay
