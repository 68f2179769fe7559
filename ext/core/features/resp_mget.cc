#include "core/features/resp_mget.h"

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

// The number behind a type. -1: it is none.
int64_t number_of(std::string_view line) noexcept {
  int64_t number = 0;
  if (line.size() < 2 || line.size() > 12) return -1;
  for (const char c : line.substr(1)) {
    if (c < '0' || c > '9') return -1;
    number = number * 10 + (c - '0');
  }
  return number;
}

}  // namespace

void write_mget(const std::vector<std::string>& keys, std::string* command) {
  command->assign("*").append(std::to_string(keys.size() + 1)).append("\r\n");
  append_text("MGET", command);
  for (const std::string& key : keys) append_text(key, command);
}

bool read_mget(std::string_view answer, std::vector<FetchedRecord>* records) noexcept {
  const std::string_view head = take_line(answer);
  if (head.empty() || head[0] != '*' || number_of(head) != static_cast<int64_t>(records->size())) return false;
  for (FetchedRecord& record : *records) {
    record = FetchedRecord();
    const std::string_view line = take_line(answer);
    if (line == "_" || line == "$-1") continue;  // null, in RESP 3 and in RESP 2
    const int64_t size = number_of(line);
    if (size < 0 || line[0] != '$' || answer.size() < static_cast<size_t>(size) + 2) return false;
    record.bytes = answer.substr(0, static_cast<size_t>(size));
    answer.remove_prefix(static_cast<size_t>(size) + 2);
  }
  return answer.empty();
}

}  // namespace assay
