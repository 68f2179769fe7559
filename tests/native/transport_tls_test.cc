// transport/tls: two ends over a wire that is driven by hand, in pieces; who is let in and who is not; ends that come too early.
#include <openssl/err.h>

#include <csignal>
#include <thread>

#include "check.h"
#include "core/transport/tls_pem.h"
#include "tls_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

using ServerContext = std::shared_ptr<const TlsContext>;
using ClientContext = std::shared_ptr<const TlsClientContext>;

Status make_server(const Pair& pair, const std::string& authorities, ServerContext* context) {
  const std::string certificate = pem_of(pair.certificate), key = pem_of(pair.key);
  return TlsContext::make({certificate, key, authorities}, context);
}

ServerContext server_context(const std::string& authorities = {}) {
  ServerContext context;
  must(make_server(house().server, authorities, &context).ok(), "a server's context");
  return context;
}

ServerContext mtls_context() { return server_context(pem_of(house().authority.certificate)); }

ClientContext client_context(const Pair* pair = nullptr, const Pair& authority = house().authority,
                             const Pair* between = nullptr) {
  const std::string authorities = pem_of(authority.certificate);
  const std::string key = pair != nullptr ? pem_of(pair->key) : "";
  std::string chain = pair != nullptr ? pem_of(pair->certificate) : "";
  if (between != nullptr) chain += pem_of(between->certificate);
  ClientContext context;
  must(TlsClientContext::make({authorities, chain, key}, &context).ok(), "a client's context");
  return context;
}

// Two ends of one connection.
struct Connection {
  Connection(const ServerContext& server_side, const ClientContext& client_side, int buffer_bytes = 0,
             const std::string& name = "localhost")
      : wire(buffer_bytes), server(wire.end(kServer), *server_side), client(wire.end(kClient), *client_side, name) {}
  bool is_ready() const { return server.is_ready() && client.is_ready(); }

  Wire wire;
  TlsStream server, client;
};

// Why a server refused a client; "ready": it did not.
std::string outcome(const ServerContext& server_side, const ClientContext& client_side) {
  Connection connection(server_side, client_side);
  shake(connection.server, connection.client, connection.wire);
  return connection.server.is_ready() ? "ready" : std::string(connection.server.failure());
}

std::string outcome_for(const CertificateSpec& spec, const Pair& authority = house().authority) {
  const Pair pair = issue(spec, &authority);
  return outcome(mtls_context(), client_context(&pair));
}

// A client of OpenSSL's own, to do what ours never does.
class RawClient {
 public:
  explicit RawClient(int fd, int version_max = TLS1_3_VERSION) : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(context_.get(), 0);
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context_.get(), version_max);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd);
    SSL_set_connect_state(ssl_.get());
  }
  void offer(const std::string& protocols) {
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(protocols.data()),
                        static_cast<unsigned>(protocols.size()));
  }
  void turn() { note(SSL_do_handshake(ssl_.get())); }
  int read(void* data, int size) { return note(SSL_read(ssl_.get(), data, size)); }
  bool is_ready() const { return SSL_is_init_finished(ssl_.get()) == 1; }
  int failure() const { return failure_; }
  SSL* ssl() const { return ssl_.get(); }

 private:
  // Keeps the reason of the first failure, and an empty error queue.
  int note(int result) {
    if (result <= 0 && failure_ == 0) failure_ = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
    return result;
  }

  SslContextHandle context_;
  SslHandle ssl_;
  int failure_ = 0;
};

constexpr char kH2[] = "\2h2";

struct RawConnection {
  explicit RawConnection(const ServerContext& context, int version_max = TLS1_3_VERSION)
      : server(wire.end(kServer), *context), client(wire.end(kClient), version_max) {}
  void shake() {
    drive(
        [&] {
          if (!server.is_ready()) read_some(server);
        },
        [&] { client.turn(); }, wire);
  }
  Wire wire;
  TlsStream server;
  RawClient client;
};

std::string random_bytes(size_t size) {
  static auto random = check::random_engine();
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

}  // namespace

// --- shaking hands ---

TEST(hands_are_shaken_in_pieces_of_any_size) {
  for (const size_t bytes : {size_t{1}, size_t{2}, size_t{7}, size_t{100}, size_t{65536}}) {
    Connection connection(mtls_context(), client_context(&house().client));
    shake(connection.server, connection.client, connection.wire, bytes);
    CHECK(connection.is_ready());
    CHECK_EQ(connection.server.failure(), "");
    size_t count = 0;
    CHECK(write_some(connection.server, "answer", &count) == IoResult::kOk && count == 6);
    CHECK(write_some(connection.client, "question", &count) == IoResult::kOk && count == 8);
    connection.wire.step(65536);
    std::string question, answer;
    CHECK(read_some(connection.server, &question) == IoResult::kOk);
    CHECK(read_some(connection.client, &answer) == IoResult::kOk);
    CHECK_EQ(question + " " + answer, "question answer");
    CHECK(read_some(connection.server) == IoResult::kBlocked && !connection.server.read_wants_write());
  }
}

TEST(a_write_shakes_hands_too_and_says_what_it_waits_for) {
  Connection connection(server_context(), client_context());
  size_t count = 0;
  CHECK(write_some(connection.server, "x", &count) == IoResult::kBlocked);
  CHECK(connection.server.write_wants_read() && !connection.server.has_pending());
  for (int i = 0; i < 10 && !connection.is_ready(); ++i) {
    write_some(connection.client, "early", &count);
    write_some(connection.server, "late", &count);
    connection.wire.step(65536);
  }
  CHECK(connection.is_ready());
  connection.wire.step(65536);
  std::string late;
  while (read_some(connection.client, &late) == IoResult::kOk) {}
  CHECK_EQ(late.substr(0, 4), "late");
  CHECK(!connection.server.write_wants_read());
}

// A small buffer: the server's flight does not fit, and it waits until the socket can be written to.
TEST(a_handshake_that_cannot_write_says_so) {
  Pair server = issue(dns_spec("localhost" + std::string(3000, 'x')), &house().authority);
  std::string chain = pem_of(server.certificate);
  for (int i = 0; i < 20; ++i) chain += pem_of(issue(dns_spec(std::string(3000, 'x')), &house().authority).certificate);
  ServerContext context;
  const std::string key = pem_of(server.key);
  CHECK(TlsContext::make({chain, key, {}}, &context).ok());
  Wire wire(1);  // the kernel's least
  TlsStream stream(wire.end(kServer), *context);
  RawClient client(wire.end(kClient));
  client.offer(kH2);
  int wanted_write = 0;
  drive(
      [&] {
        if (!stream.is_ready() && read_some(stream) == IoResult::kBlocked) wanted_write += stream.read_wants_write() ? 1 : 0;
      },
      [&] { client.turn(); }, wire, 512);
  CHECK(stream.is_ready());
  CHECK(wanted_write > 0);
  CHECK(!stream.read_wants_write());
}

TEST(versions) {
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION, TLS1_1_VERSION, TLS1_VERSION}) {
    RawConnection raw(server_context(), version);
    raw.client.offer(kH2);
    raw.shake();
    CHECK_EQ(raw.server.is_ready(), version >= TLS1_2_VERSION);
    CHECK_EQ(raw.client.is_ready(), version >= TLS1_2_VERSION);
    if (version < TLS1_2_VERSION) {
      CHECK_EQ(raw.server.failure(), "unsupported protocol");
      CHECK_EQ(raw.client.failure(), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
      CHECK(read_some(raw.server) == IoResult::kFailed);
    } else {
      CHECK_EQ(SSL_version(raw.client.ssl()), version);
    }
  }
}

// HTTP/2 forbids the others (RFC 7540, appendix A), and gRPC has none but these four.
TEST(ciphers_of_tls_1_2) {
  const auto agrees = [](const char* cipher) {
    RawConnection raw(server_context(), TLS1_2_VERSION);
    raw.client.offer(kH2);
    SSL_set_cipher_list(raw.client.ssl(), cipher);
    raw.shake();
    return raw.server.is_ready();
  };
  CHECK(agrees("ECDHE-ECDSA-AES128-GCM-SHA256"));
  CHECK(agrees("ECDHE-ECDSA-AES256-GCM-SHA384"));
  for (const char* other : {"ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-NULL-SHA",
                            "DHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA"}) {
    CHECK(!agrees(other));
  }
}

TEST(alpn) {
  struct Case {
    std::string offered;
    const char* failure;
  };
  const std::string none = "the peer has not agreed to HTTP/2 (no ALPN)", other = "no application protocol";
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const Case& it : {Case{kH2, ""}, Case{"\10http/1.1\2h2", ""}, Case{"\10grpc-exp\2h2", ""}, Case{"", none.c_str()},
                           Case{"\10http/1.1", other.c_str()}, Case{"\2H2", other.c_str()}, Case{"\3h2c", other.c_str()},
                           Case{"\1h", other.c_str()}}) {
      RawConnection raw(server_context(), version);
      if (!it.offered.empty()) raw.client.offer(it.offered);
      raw.shake();
      CHECK_EQ(raw.server.is_ready(), it.failure[0] == '\0');
      CHECK_EQ(raw.server.failure(), it.failure);
      if (it.failure == other) CHECK_EQ(raw.client.failure(), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    }
  }
}

// As gRPC does: a tool without ALPN sees the certificate, and then an end, in good order.
TEST(without_alpn_a_client_sees_the_certificate_but_no_byte_of_data) {
  RawConnection raw(server_context());
  raw.shake();
  CHECK(raw.client.is_ready() && SSL_get0_peer_certificate(raw.client.ssl()) != nullptr);
  char byte;
  CHECK(raw.client.read(&byte, 1) <= 0);
  CHECK_EQ(SSL_get_shutdown(raw.client.ssl()) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
  size_t count = 0;
  CHECK(write_some(raw.server, "x", &count) == IoResult::kFailed);
}

// Each connection proves its certificate: a session that is resumed would not.
TEST(sessions_are_never_resumed) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const ServerContext context = server_context();
    RawConnection first(context, version);
    first.client.offer(kH2);
    first.shake();
    size_t count = 0;
    write_some(first.server, "x", &count);
    first.wire.step(65536);
    char byte;
    CHECK_EQ(first.client.read(&byte, 1), 1);  // a ticket would come before it
    SSL_SESSION* session = SSL_get1_session(first.client.ssl());
    CHECK_EQ(SSL_SESSION_is_resumable(session), 0);
    RawConnection second(context, version);
    second.client.offer(kH2);
    SSL_set_session(second.client.ssl(), session);
    second.shake();
    CHECK(second.server.is_ready());
    CHECK_EQ(SSL_session_reused(second.client.ssl()), 0);
    SSL_SESSION_free(session);
  }
}

// --- client certificates ---

TEST(good_client_certificates) {
  CHECK_EQ(outcome_for(dns_spec("core.bank.internal")), "ready");
  for (const char* usage : {"clientAuth", "clientAuth,serverAuth"}) {
    CertificateSpec spec = dns_spec("core.bank.internal");
    spec.extended_usage = usage;
    CHECK_EQ(outcome_for(spec), "ready");
  }
}

TEST(bad_client_certificates) {
  CertificateSpec spec = dns_spec("core.bank.internal");
  const Pair stranger = issue(authority_spec("another"));
  CHECK_EQ(outcome_for(spec, stranger), "unable to get local issuer certificate");
  const Pair twin = issue(authority_spec("assay test authority"));  // the same name, another key
  CHECK(outcome_for(spec, twin) != "ready");
  spec.from_s = -7200;
  spec.until_s = -3600;
  CHECK_EQ(outcome_for(spec), "certificate has expired");
  spec.from_s = 3600;
  spec.until_s = 7200;
  CHECK_EQ(outcome_for(spec), "certificate is not yet valid");
  spec = dns_spec("core.bank.internal");
  for (const char* usage : {"serverAuth", "anyExtendedKeyUsage", "emailProtection"}) {  // gRPC refuses these too
    spec.extended_usage = usage;
    CHECK_EQ(outcome_for(spec), "unsuitable certificate purpose");
  }
  const Pair alone = issue(dns_spec("core.bank.internal"));
  CHECK(outcome(mtls_context(), client_context(&alone)) != "ready");
}

TEST(no_client_certificate) {
  CHECK_EQ(outcome(mtls_context(), client_context()), "peer did not return a certificate");
  CHECK_EQ(outcome(server_context(), client_context()), "ready");
  // Nobody asks for it: it is not sent.
  Connection connection(server_context(), client_context(&house().client));
  shake(connection.server, connection.client, connection.wire);
  CHECK(connection.is_ready() && SSL_get0_peer_certificate(connection.server.native()) == nullptr);
}

// What the authorities' file holds is trusted as it is, and a chain may lead there.
TEST(chains) {
  const Pair between = issue(authority_spec("between"), &house().authority);
  const Pair leaf = issue(dns_spec("core.bank.internal"), &between);
  CHECK_EQ(outcome(mtls_context(), client_context(&leaf, house().authority, &between)), "ready");
  CHECK_EQ(outcome(mtls_context(), client_context(&leaf)), "unable to get local issuer certificate");
  CHECK_EQ(outcome(server_context(pem_of(between.certificate)), client_context(&leaf)), "ready");
  CHECK_EQ(outcome(server_context(pem_of(leaf.certificate)), client_context(&leaf)), "ready");
  const Pair leaf_of_leaf = issue(dns_spec("core.bank.internal"), &leaf);  // no authority, but it signs
  CHECK(outcome(mtls_context(), client_context(&leaf_of_leaf, house().authority, &leaf)) != "ready");
}

TEST(chains_have_a_depth) {
  for (const int links : {8, 9}) {
    std::vector<Pair> signers;
    for (int i = 0; i < links; ++i)
      signers.push_back(issue(authority_spec("link " + std::to_string(i)), i == 0 ? &house().authority : &signers.back()));
    const Pair leaf = issue(dns_spec("core.bank.internal"), &signers.back());
    std::string chain = pem_of(leaf.certificate);
    for (const Pair& signer : signers) chain += pem_of(signer.certificate);
    const std::string authorities = pem_of(house().authority.certificate), key = pem_of(leaf.key);
    ClientContext client;
    CHECK(TlsClientContext::make({authorities, chain, key}, &client).ok());
    CHECK_EQ(outcome(mtls_context(), client) == "ready", links == 8);
  }
}

// With TLS 1.3 a client has shaken hands before the server has looked at its certificate: it is told with its first read.
TEST(a_client_that_is_refused_is_told_why) {
  Connection connection(mtls_context(), client_context());
  shake(connection.server, connection.client, connection.wire);
  CHECK(!connection.server.is_ready());
  CHECK(read_some(connection.client) == IoResult::kFailed);
  CHECK_EQ(connection.client.failure(), "tlsv13 alert certificate required");
}

TEST(a_client_checks_the_server) {
  const auto failure = [](const Pair& server, const std::string& name, const Pair& authority = house().authority) {
    ServerContext context;
    must(make_server(server, {}, &context).ok(), "a server's context");
    Connection connection(context, client_context(nullptr, authority), 0, name);
    shake(connection.server, connection.client, connection.wire);
    return connection.client.is_ready() ? std::string("ready") : std::string(connection.client.failure());
  };
  CHECK_EQ(failure(house().server, "localhost"), "ready");
  CHECK_EQ(failure(house().server, "LocalHost"), "ready");
  CHECK_EQ(failure(house().server, "elsewhere"), "hostname mismatch");
  CHECK_EQ(failure(house().server, "127.0.0.1"), "IP address mismatch");
  CHECK_EQ(failure(house().server, ""), "the server's name is neither a DNS name nor an address");
  CHECK_EQ(failure(house().server, std::string("localhost\0x", 11)), "the server's name is neither a DNS name nor an address");
  CHECK(failure(house().server, "localhost", issue(authority_spec("another"))) != "ready");
  CertificateSpec spec;
  spec.names = {{GEN_IPADD, std::string("\x7f\0\0\1", 4)}};
  CHECK_EQ(failure(issue(spec, &house().authority), "127.0.0.1"), "ready");
  spec = CertificateSpec();
  spec.common_name = "localhost";
  CHECK_EQ(failure(issue(spec, &house().authority), "localhost"), "hostname mismatch");
  spec = dns_spec("localhost");
  spec.extended_usage = "clientAuth";
  CHECK_EQ(failure(issue(spec, &house().authority), "localhost"), "unsuitable certificate purpose");
}

// --- data ---

TEST(large_writes_are_taken_in_parts_in_order) {
  Connection connection(server_context(), client_context(), 4096);
  shake(connection.server, connection.client, connection.wire);
  const std::string sent = random_bytes(1 << 20);
  std::string received;
  auto random = check::random_engine();
  std::string places[2];
  int tries = 0, blocked = 0, partial = 0;
  for (size_t at = 0; received.size() < sent.size();) {
    while (at < sent.size()) {
      // Each try from another place in memory, and after kBlocked with more than before.
      std::string& offered = places[++tries % 2];
      offered.assign(sent, at, 50'000 + static_cast<size_t>(blocked));
      size_t count = 0;
      const IoResult result = write_some(connection.server, offered, &count);
      REQUIRE(!is_over(result));
      blocked += result == IoResult::kBlocked ? 1 : 0;
      partial += result == IoResult::kOk && count < offered.size() ? 1 : 0;
      at += count;
      if (result != IoResult::kOk) break;
    }
    connection.wire.carry(kServer, 1 + random() % 5000);
    while (read_some(connection.client, &received, 1 + random() % 9000) == IoResult::kOk) {}
    REQUIRE(connection.client.failure().empty());
  }
  CHECK(received == sent);
  CHECK(blocked > 0 && partial > 0);
}

TEST(pending_is_what_needs_no_more_of_the_socket) {
  Connection connection(server_context(), client_context());
  shake(connection.server, connection.client, connection.wire);
  CHECK(!connection.server.has_pending());
  size_t count = 0;
  for (const char* record : {"one", "two", "three"}) write_some(connection.client, record, &count);
  connection.wire.step(65536);
  CHECK(!connection.server.has_pending());  // nothing is read yet: the socket tells
  std::string got;
  CHECK(read_some(connection.server, &got, 2) == IoResult::kOk);
  int reads = 1;
  for (; connection.server.has_pending() && reads < 100; ++reads) CHECK(read_some(connection.server, &got, 2) == IoResult::kOk);
  CHECK_EQ(got, "onetwothree");
  CHECK_EQ(reads, 7);  // of two bytes, each within a record
}

TEST(half_a_record_is_pending_at_most_once) {
  Connection connection(server_context(), client_context());
  shake(connection.server, connection.client, connection.wire);
  size_t count = 0;
  write_some(connection.client, "whole", &count);
  connection.wire.step(65536);
  write_some(connection.client, "half", &count);
  connection.wire.step(10);
  std::string got;
  CHECK(read_some(connection.server, &got) == IoResult::kOk);
  CHECK(connection.server.has_pending());
  CHECK(read_some(connection.server, &got) == IoResult::kBlocked);
  CHECK(!connection.server.has_pending());
  connection.wire.step(65536);
  CHECK(read_some(connection.server, &got) == IoResult::kOk);
  CHECK_EQ(got, "wholehalf");
}

// The client's last flight and its first data come in one piece, and a write finishes the handshake.
TEST(data_behind_the_handshake_is_pending) {
  Connection connection(server_context(), client_context());
  size_t count = 0;
  read_some(connection.client);
  connection.wire.step(65536);
  CHECK(write_some(connection.server, "x", &count) == IoResult::kBlocked);
  connection.wire.step(65536);
  CHECK(read_some(connection.client) == IoResult::kBlocked);
  CHECK(connection.client.is_ready());
  CHECK(write_some(connection.client, "early", &count) == IoResult::kOk);
  connection.wire.step(65536);
  CHECK(write_some(connection.server, "x", &count) == IoResult::kOk);
  CHECK(connection.server.has_pending());
  std::string got;
  CHECK(read_some(connection.server, &got) == IoResult::kOk);
  CHECK_EQ(got, "early");
}

// --- what peers do to a server ---

TEST(new_keys_are_made_but_not_for_ever) {
  RawConnection raw(server_context());
  raw.client.offer(kH2);
  raw.shake();
  REQUIRE(raw.server.is_ready());
  const auto new_key = [&] {
    SSL_key_update(raw.client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    raw.client.turn();
    raw.wire.step(65536);
  };
  for (int i = 0; i < 2000; ++i) {  // more than the limit in all, but with a byte of data each
    new_key();
    SSL_write(raw.client.ssl(), "x", 1);
    raw.wire.step(65536);
    std::string got;
    while (read_some(raw.server, &got) == IoResult::kOk) {}
    REQUIRE(got == "x");
    char byte;
    size_t count = 0;
    if (i % 100 == 0) {
      CHECK(write_some(raw.server, "y", &count) == IoResult::kOk);
      raw.wire.step(65536);
      CHECK_EQ(raw.client.read(&byte, 1), 1);
    }
  }
  int updates = 0;
  for (; updates < 100'000 && !is_over(read_some(raw.server)); ++updates) new_key();
  CHECK_EQ(raw.server.failure(), "too much of TLS itself without data");
  CHECK(updates > 1000 && updates < 4000);
}

TEST(renegotiation_is_refused) {
  RawConnection raw(server_context(), TLS1_2_VERSION);
  raw.client.offer(kH2);
  raw.shake();
  REQUIRE(raw.server.is_ready());
  SSL_renegotiate(raw.client.ssl());
  raw.client.turn();
  CHECK(raw.wire.step(65536) > 0);
  CHECK(read_some(raw.server) == IoResult::kBlocked);
  CHECK(raw.wire.step(65536) > 0);
  raw.client.turn();
  CHECK_EQ(raw.client.failure(), SSL_R_NO_RENEGOTIATION);
}

TEST(bytes_that_are_no_handshake) {
  const std::pair<std::string, const char*> cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", "http request"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "wrong version number"},
      {std::string("\x16\x03\x01\xff\xff", 5) + std::string(100, 'x'), nullptr},
      {std::string(5000, '\0'), nullptr},
      {"CONNECT x", nullptr},
      {std::string(200'000, 'A'), nullptr},
  };
  for (const auto& [bytes, why] : cases) {
    Wire wire;
    TlsStream server(wire.end(kServer), *server_context());
    wire.inject(kServer, bytes);
    for (int i = 0; i < 20 && !is_over(read_some(server)); ++i) {}
    CHECK(read_some(server) == IoResult::kFailed);
    CHECK(!server.failure().empty() && !server.is_ready() && !server.has_pending());
    if (why != nullptr) CHECK_EQ(server.failure(), why);
    CHECK_EQ(ERR_peek_error(), 0u);
  }
}

TEST(random_bytes_and_damaged_handshakes_end_somehow) {
  auto random = check::random_engine();
  const ServerContext server_side = mtls_context();
  const ClientContext client_side = client_context(&house().client);
  for (int i = 0; i < check::scaled(150); ++i) {
    Connection connection(server_side, client_side);
    uint64_t moved = 0;
    const uint64_t damaged_at = random() % 2500;
    for (int quiet = 0; quiet < 3;) {
      for (TlsStream* stream : {&connection.client, &connection.server}) {
        if (!stream->is_ready()) read_some(*stream);
      }
      const size_t step = connection.wire.step(1 + random() % 600);
      if (moved <= damaged_at && damaged_at < moved + step) connection.wire.inject(kServer, random_bytes(1 + random() % 50));
      moved += step;
      quiet = step > 0 ? 0 : quiet + 1;
    }
    CHECK_EQ(ERR_peek_error(), 0u);
  }
}

// Every prefix of what a client says while hands are shaken, then an end.
TEST(a_peer_that_leaves_during_the_handshake) {
  std::signal(SIGPIPE, SIG_DFL);
  const ServerContext server_side = mtls_context();
  const ClientContext client_side = client_context(&house().client);
  for (size_t allowed = 0; allowed < 2000; allowed += 13) {
    Connection connection(server_side, client_side);
    size_t left = allowed;
    for (int quiet = 0; quiet < 3 && left > 0;) {
      for (TlsStream* stream : {&connection.client, &connection.server}) {
        if (!stream->is_ready()) read_some(*stream);
      }
      const size_t out = connection.wire.carry(kClient, left), back = connection.wire.carry(kServer, 65536);
      left -= out;
      quiet = out + back > 0 ? 0 : quiet + 1;
    }
    if (connection.server.is_ready()) continue;
    connection.wire.cut(kClient);
    IoResult result = IoResult::kBlocked;
    for (int i = 0; i < 5 && !is_over(result); ++i) result = read_some(connection.server);
    CHECK(result == IoResult::kFailed);
    if (!connection.server.is_ready()) CHECK(!connection.server.failure().empty());
    size_t count = 0;
    CHECK(write_some(connection.server, "x", &count) == IoResult::kFailed);
    connection.server.close_write();
  }
}

TEST(a_peer_that_leaves_without_a_word_is_closed) {
  Connection connection(server_context(), client_context());
  shake(connection.server, connection.client, connection.wire);
  size_t count = 0;
  write_some(connection.client, "last", &count);
  connection.wire.step(65536);
  connection.wire.cut(kClient);
  std::string got;
  CHECK(read_some(connection.server, &got) == IoResult::kOk);
  CHECK(read_some(connection.server, &got) == IoResult::kClosed);
  CHECK(read_some(connection.server, &got) == IoResult::kClosed);
  CHECK_EQ(got, "last");
  CHECK_EQ(connection.server.failure(), "");
  // Nobody is there: no SIGPIPE.
  std::signal(SIGPIPE, SIG_DFL);
  CHECK(write_some(connection.server, "x", &count) == IoResult::kFailed);
  CHECK_EQ(connection.server.failure(), "the connection is lost");
  CHECK(read_some(connection.server, &got) == IoResult::kFailed);
}

TEST(what_is_owed_to_a_peer_that_has_said_all_is_still_written) {
  for (const bool says_so : {true, false}) {
    Connection connection(server_context(), client_context());
    shake(connection.server, connection.client, connection.wire);
    if (says_so) connection.client.close_write();
    if (!says_so) ::shutdown(connection.wire.end(kClient), SHUT_WR);
    connection.wire.step(65536);
    // The wire carries bytes, not ends: without TLS's own end the pair's is made here.
    if (!says_so) connection.wire.end_stream(kServer);
    CHECK(read_some(connection.server) == IoResult::kClosed);
    CHECK(!connection.server.has_pending());
    size_t count = 0;
    CHECK(write_some(connection.server, "answer", &count) == IoResult::kOk);
    connection.server.close_write();
    connection.wire.step(65536);
    std::string answer;
    CHECK(read_some(connection.client, &answer) == IoResult::kOk);
    CHECK_EQ(answer, "answer");
    CHECK(read_some(connection.client) == IoResult::kClosed);
  }
}

TEST(closing_during_the_handshake_harms_nobody) {
  Connection connection(server_context(), client_context());
  connection.client.close_write();
  connection.server.close_write();
  CHECK(read_some(connection.client) == IoResult::kFailed);  // its hello cannot leave
  CHECK(read_some(connection.server) == IoResult::kBlocked);
}

TEST(damaged_records_fail) {
  Connection connection(server_context(), client_context());
  shake(connection.server, connection.client, connection.wire);
  connection.wire.inject(kServer, std::string("\x17\x03\x03\0\x20", 5) + std::string(32, 'x'));
  CHECK(read_some(connection.server) == IoResult::kFailed);
  CHECK_EQ(connection.server.failure(), "decryption failed or bad record mac");
  connection.server.close_write();
}

TEST(others_errors_are_not_ours) {
  Connection connection(server_context(), client_context());
  ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
  CHECK(read_some(connection.client) == IoResult::kBlocked);
  shake(connection.server, connection.client, connection.wire);
  ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
  CHECK(read_some(connection.server) == IoResult::kBlocked);
  size_t count = 0;
  ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
  CHECK(write_some(connection.server, "x", &count) == IoResult::kOk);
}

// --- PEM ---

TEST(pem_that_is_refused_says_why_and_shows_nothing) {
  const std::string certificate = pem_of(house().server.certificate), key = pem_of(house().server.key);
  const std::string authorities = pem_of(house().authority.certificate);
  const std::string damaged = certificate.substr(0, 300),
                    bad_block = certificate.substr(0, 100) + "!!!!" + certificate.substr(104);
  struct Case {
    std::string certificate, key, authorities, detail;
  };
  const std::string encrypted = "key: is encrypted; the server has nobody to ask for the password: decrypt it, mode 0600";
  const std::string no_key = "key: holds no PEM block of a private key, or a damaged one";
  const Case cases[] = {
      {"", key, "", "certificate: holds no PEM block of a certificate"},
      {key, key, "", "certificate: holds no PEM block of a certificate"},
      {damaged, key, "", "certificate: damaged PEM"},
      {bad_block, key, "", "certificate: damaged PEM"},
      {certificate + damaged, key, "", "certificate: damaged PEM"},
      {certificate, "", "", no_key},
      {certificate, certificate, "", no_key},
      {certificate, key.substr(0, 100), "", no_key},
      {certificate, "secret", "", no_key},
      {certificate, pem_of(house().client.key), "", "key: is not the key of the certificate"},
      {certificate, pem_of(house().server.key.get(), "password"), "", encrypted},
      {certificate, key, "text", "client authorities: holds no PEM block of a certificate"},
      {certificate, key, authorities + damaged, "client authorities: damaged PEM"},
      {std::string(kPemBytesMax + 1, 'x'), key, "", "certificate: longer than 1 MiB"},
      {std::string(kPemBytesMax, 'x'), key, "", "certificate: holds no PEM block of a certificate"},
      {certificate, std::string(kPemBytesMax + 1, 'x'), "", "key: longer than 1 MiB"},
  };
  for (const Case& it : cases) {
    ServerContext context;
    const Status status = TlsContext::make({it.certificate, it.key, it.authorities}, &context);
    CHECK(status.code == Code::kInvalidRequest && context == nullptr);
    CHECK_EQ(status.detail, it.detail);
    CHECK_EQ(ERR_peek_error(), 0u);
  }
}

TEST(pem_that_is_taken) {
  const std::string certificate = pem_of(house().server.certificate), key = pem_of(house().server.key);
  const std::string authorities = pem_of(house().authority.certificate);
  const assay::BioHandle bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey_traditional(bio.get(), house().server.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  const std::string traditional = text_of(bio.get());
  CHECK(traditional.find("BEGIN EC PRIVATE KEY") != std::string::npos);
  const std::string parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
  const std::pair<std::string, std::string> pairs[] = {{certificate, traditional},
                                                       {certificate, parameters + traditional},
                                                       {certificate, certificate + key},
                                                       {key + certificate, key},
                                                       {"a comment\n" + certificate, "another\n" + key}};
  for (const auto& [good_certificate, good_key] : pairs) {
    ServerContext context;
    CHECK_EQ(TlsContext::make({good_certificate, good_key, authorities}, &context).detail, "");
    CHECK(context != nullptr);
    if (context != nullptr) CHECK_EQ(outcome(context, client_context(&house().client)), "ready");
  }
}

TEST(certificates_have_a_limit) {
  const std::string one = pem_of(house().authority.certificate);
  std::string many;
  for (size_t i = 0; i < kPemCertificatesMax; ++i) many += one;
  CHECK_EQ(outcome(server_context(many), client_context(&house().client)), "ready");
  ServerContext context;
  CHECK_EQ(make_server(house().server, many + one, &context).detail, "client authorities: more than 256 certificates");
}

TEST(weak_certificates_are_refused) {
  const KeyHandle key(EVP_RSA_gen(1024));
  Pair weak = issue(dns_spec("localhost"), &house().authority);
  X509_set_pubkey(weak.certificate.get(), key.get());
  X509_sign(weak.certificate.get(), house().authority.key.get(), EVP_sha256());
  ServerContext context;
  const std::string certificate = pem_of(weak.certificate), key_pem = pem_of(key);
  CHECK_EQ(TlsContext::make({certificate, key_pem, {}}, &context).detail, "certificate: ee key too small");
}

TEST(a_client_needs_authorities_and_both_halves_of_a_pair) {
  const std::string certificate = pem_of(house().client.certificate), key = pem_of(house().client.key);
  const std::string authorities = pem_of(house().authority.certificate);
  ClientContext context;
  CHECK(!TlsClientContext::make({{}, {}, {}}, &context).ok());
  CHECK(!TlsClientContext::make({authorities, certificate, {}}, &context).ok());
  CHECK(!TlsClientContext::make({authorities, {}, key}, &context).ok());
  CHECK(TlsClientContext::make({authorities, certificate, key}, &context).ok());
}

// The chain that is sent is the one that was given: the clients' authorities are not searched for more.
TEST(nothing_is_added_to_the_chain) {
  RawConnection raw(mtls_context());
  raw.client.offer(kH2);
  raw.shake();
  CHECK_EQ(sk_X509_num(SSL_get_peer_cert_chain(raw.client.ssl())), 1);
}

// --- threads and lives ---

TEST(a_stream_outlives_its_context) {
  ServerContext server_side = mtls_context();
  ClientContext client_side = client_context(&house().client);
  Connection connection(server_side, client_side);
  server_side.reset();
  client_side.reset();
  shake(connection.server, connection.client, connection.wire);
  CHECK(connection.is_ready());
}

TEST(two_threads_shake_hands_with_one_context) {
  const ServerContext server_side = mtls_context();
  const ClientContext client_side = client_context(&house().client);
  int ready[2] = {0, 0};
  const int rounds = check::scaled(30);
  const auto run = [&](int index) {
    for (int i = 0; i < rounds; ++i) {
      Connection connection(server_side, client_side);
      shake(connection.server, connection.client, connection.wire);
      ready[index] += connection.is_ready() ? 1 : 0;
    }
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  CHECK_EQ(ready[0] + ready[1], 2 * rounds);
}

ASSAY_TEST_MAIN
