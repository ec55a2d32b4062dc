// Load generator: sends one prepared gRPC message repeatedly and measures the answers.
//
// Closed loop (--callers N): N callers, each sends its next request when it has an answer.
// Open loop (--rate R): R requests a second whatever the server does; latency counts from the scheduled send time,
// so a stalled server is charged for its stall (no coordinated omission).
// Streams (--stream 1, closed loop): the callers of a connection share one stream; an answer belongs to the oldest
// request on it without one.
//
// One thread. Checks every status, and that no answer is smaller than the correct one. Prints one line of JSON.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string target, method, payload, certificate;
  int callers = 1, connections = 1, stream = 0;
  double rate = 0, seconds = 1, warmup_seconds = 0.3;
  size_t least_bytes = 0;
};

struct Result {
  std::vector<float> latencies_ms;
  std::map<std::string, long> errors;
  long all = 0;  // answers including the warm-up, for CPU time per request
  long unfinished = 0;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string name = argv[i], value = argv[i + 1];
    if (name == "--target") options.target = value;
    else if (name == "--method") options.method = value;
    else if (name == "--payload") options.payload = value;
    else if (name == "--certificate") options.certificate = value;
    else if (name == "--callers") options.callers = std::stoi(value);
    else if (name == "--connections") options.connections = std::stoi(value);
    else if (name == "--stream") options.stream = std::stoi(value);
    else if (name == "--rate") options.rate = std::stod(value);
    else if (name == "--seconds") options.seconds = std::stod(value);
    else if (name == "--warmup-seconds") options.warmup_seconds = std::stod(value);
    else if (name == "--least-bytes") options.least_bytes = std::stoul(value);
    else {
      std::fprintf(stderr, "loadgen: unknown flag %s\n", name.c_str());
      std::exit(2);
    }
  }
  if (options.target.empty() || options.method.empty() || options.payload.empty()) {
    std::fprintf(stderr, "usage: loadgen --target HOST:PORT --method /pkg.Service/Method --payload FILE "
                         "[--callers N [--stream 1] | --rate R] [--connections N] [--seconds S] [--warmup-seconds S] "
                         "[--least-bytes N] [--certificate FILE]\n");
    std::exit(2);
  }
  return options;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "loadgen: cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

grpc::ByteBuffer Message(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// TLS where the server's certificate is given.
std::shared_ptr<grpc::ChannelCredentials> Credentials(const std::string& certificate) {
  if (certificate.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadFile(certificate);
  return grpc::SslCredentials(options);
}

struct Call {
  grpc::ClientContext context;
  grpc::ByteBuffer reply;
  grpc::Status status;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
  Clock::time_point intended;
};

// One stream with requests in flight. gRPC allows one pending message per direction.
struct Stream {
  grpc::ClientContext context;
  grpc::ByteBuffer reply;
  grpc::Status status;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
  std::deque<Clock::time_point> sent;
  int waiting = 0;  // requests ready to be sent
  bool writing = false, closed = false;
};

enum class Step : intptr_t { kStarted, kRead, kWritten, kFinished };

struct Event {
  Stream* stream;
  Step step;
};

class Generator {
 public:
  explicit Generator(const Options& options) : options_(options), payload_(Message(ReadFile(options.payload))) {
    for (int i = 0; i < options.connections; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt("grpc.use_local_subchannel_pool", 1);  // each channel gets its own connection
      arguments.SetMaxReceiveMessageSize(-1);
      auto channel = grpc::CreateCustomChannel(options.target, Credentials(options.certificate), arguments);
      if (!channel->WaitForConnected(Clock_deadline(10))) {
        std::fprintf(stderr, "loadgen: no connection to %s within 10 s\n", options.target.c_str());
        std::exit(1);
      }
      stubs_.push_back(std::make_unique<grpc::GenericStub>(channel));
    }
  }

  Result Run() {
    begin_ = Clock::now() + Span(options_.warmup_seconds);
    end_ = begin_ + Span(options_.seconds);
    if (options_.stream) Streams();
    else options_.rate > 0 ? OpenLoop() : ClosedLoop();
    return std::move(result_);
  }

 private:
  static std::chrono::system_clock::time_point Clock_deadline(int seconds) {
    return std::chrono::system_clock::now() + std::chrono::seconds(seconds);
  }
  static Clock::duration Span(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  void Send(Clock::time_point intended) {
    auto* call = new Call;
    call->intended = intended;
    call->reader = stubs_[next_++ % stubs_.size()]->PrepareUnaryCall(&call->context, options_.method, payload_, &queue_);
    call->reader->StartCall();
    call->reader->Finish(&call->reply, &call->status, call);
    ++outstanding_;
  }

  void Receive(void* tag) {
    std::unique_ptr<Call> call(static_cast<Call*>(tag));
    --outstanding_;
    Count(call->intended, call->status, call->reply);
  }

  void Count(Clock::time_point intended, const grpc::Status& status, const grpc::ByteBuffer& reply) {
    ++result_.all;
    auto now = Clock::now();
    // Closed loop: calls that end in the window count. Open loop: calls scheduled in it, however late they end.
    bool counts = options_.rate > 0 ? intended >= begin_ && intended < end_ : now >= begin_ && now < end_;
    if (!counts) return;
    if (!status.ok()) {
      ++result_.errors["status " + std::to_string(status.error_code()) + ": " + status.error_message()];
    } else if (reply.Length() < options_.least_bytes) {
      ++result_.errors["answer of " + std::to_string(reply.Length()) + " bytes"];
    } else {
      result_.latencies_ms.push_back(std::chrono::duration<float, std::milli>(now - intended).count());
    }
  }

  void Streams() {
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < options_.connections; ++i) {
      streams.push_back(std::make_unique<Stream>());
      auto* stream = streams.back().get();
      stream->waiting = options_.callers / options_.connections;
      stream->call = stubs_[i]->PrepareCall(&stream->context, options_.method, &queue_);
      stream->call->StartCall(new Event{stream, Step::kStarted});
      ++outstanding_;
    }
    void* tag;
    bool ok;
    while (outstanding_ > 0 && queue_.Next(&tag, &ok)) {
      std::unique_ptr<Event> event(static_cast<Event*>(tag));
      --outstanding_;
      Advance(event->stream, event->step, ok);
    }
  }

  void Advance(Stream* stream, Step step, bool ok) {
    if (step == Step::kFinished) {
      if (!stream->status.ok() || !stream->sent.empty()) ++result_.errors["the stream ended: " + stream->status.error_message()];
      return;
    }
    if (step == Step::kRead && !ok) {
      stream->call->Finish(&stream->status, new Event{stream, Step::kFinished});
      ++outstanding_;
      return;
    }
    if (step == Step::kWritten) stream->writing = false;
    if (step == Step::kRead) {
      Count(stream->sent.front(), grpc::Status::OK, stream->reply);
      stream->sent.pop_front();
      ++stream->waiting;
    }
    if (step != Step::kWritten) {
      stream->call->Read(&stream->reply, new Event{stream, Step::kRead});
      ++outstanding_;
    }
    if (stream->writing || stream->closed || !ok) return;
    if (Clock::now() >= end_) {
      stream->closed = true;
      stream->call->WritesDone(new Event{stream, Step::kWritten});
    } else if (stream->waiting > 0) {
      --stream->waiting;
      stream->sent.push_back(Clock::now());
      stream->call->Write(payload_, new Event{stream, Step::kWritten});
    } else {
      return;
    }
    stream->writing = true;
    ++outstanding_;
  }

  void ClosedLoop() {
    for (int i = 0; i < options_.callers; ++i) Send(Clock::now());
    void* tag;
    bool ok;
    while (outstanding_ > 0 && queue_.Next(&tag, &ok)) {
      Receive(tag);
      if (Clock::now() < end_) Send(Clock::now());
    }
  }

  void OpenLoop() {
    auto first = Clock::now();
    long sent = 0;
    void* tag;
    bool ok;
    while (true) {
      auto due = first + Span(sent / options_.rate);
      if (due >= end_) break;
      if (Clock::now() >= due) {
        Send(due);
        ++sent;
        continue;
      }
      auto wait = std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::microseconds>(due - Clock::now());
      if (queue_.AsyncNext(&tag, &ok, wait) == grpc::CompletionQueue::GOT_EVENT) Receive(tag);
    }
    // Outstanding answers get two more seconds; those still missing then are reported.
    auto patience = std::chrono::system_clock::now() + std::chrono::seconds(2);
    while (outstanding_ > 0 && queue_.AsyncNext(&tag, &ok, patience) == grpc::CompletionQueue::GOT_EVENT) Receive(tag);
    result_.unfinished = outstanding_;
  }

  Options options_;
  grpc::ByteBuffer payload_;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs_;
  grpc::CompletionQueue queue_;
  size_t next_ = 0;
  long outstanding_ = 0;
  Clock::time_point begin_, end_;
  Result result_;
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double Quantile(const std::vector<float>& sorted, double q) {
  if (sorted.empty()) return NAN;
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(std::ceil(q * sorted.size())) - (q > 0 ? 1 : 0))];
}

std::string Escape(const std::string& text) {
  std::string escaped;
  for (char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return escaped;
}

void Print(Result& result, const Options& options, double cpu_seconds) {
  auto& sorted = result.latencies_ms;
  std::sort(sorted.begin(), sorted.end());
  std::printf("{\"answers\": %zu, \"all\": %ld, \"seconds\": %g, \"unfinished\": %ld, \"cpu_seconds\": %g", sorted.size(),
              result.all, options.seconds, result.unfinished, cpu_seconds);
  if (!sorted.empty()) {
    for (auto [name, q] : {std::pair{"p50_ms", 0.5}, {"p90_ms", 0.9}, {"p99_ms", 0.99}, {"p999_ms", 0.999}, {"max_ms", 1.0}}) {
      std::printf(", \"%s\": %.4f", name, Quantile(sorted, q));
    }
  }
  std::printf(", \"errors\": {");
  const char* comma = "";
  for (auto& [text, count] : result.errors) {
    std::printf("%s\"%s\": %ld", comma, Escape(text).c_str(), count);
    comma = ", ";
  }
  std::printf("}}\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options = Parse(argc, argv);
  auto generator = std::make_unique<Generator>(options);
  Result result = generator->Run();
  Print(result, options, CpuSeconds());
  std::fflush(stdout);
  // Calls still outstanding on a stalled server must not delay the exit.
  std::_Exit(0);
}
