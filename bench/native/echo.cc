// A gRPC server that answers every unary call with the bytes that it received: the limit of the library alone.
// One thread, one completion queue, no parsing. Usage: echo PORT; prints "listening HOST:PORT".
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

namespace {

// One call, driven by its own events: accept, read, write and finish, done.
class Call {
 public:
  Call(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), stream_(&context_) {
    service_->RequestCall(&context_, &stream_, queue_, queue_, this);
  }

  void Advance(bool ok) {
    if (!ok || state_ == State::kDone) {
      delete this;
      return;
    }
    if (state_ == State::kAccepted) {
      new Call(service_, queue_);
      state_ = State::kRead;
      stream_.Read(&message_, this);
    } else {
      state_ = State::kDone;
      stream_.WriteAndFinish(message_, grpc::WriteOptions(), grpc::Status::OK, this);
    }
  }

 private:
  enum class State { kAccepted, kRead, kDone };
  State state_ = State::kAccepted;
  grpc::AsyncGenericService* service_;
  grpc::ServerCompletionQueue* queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_;
  grpc::ByteBuffer message_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: echo PORT\n");
    return 2;
  }
  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(std::string("127.0.0.1:") + argv[1], grpc::InsecureServerCredentials(), &port);
  builder.RegisterAsyncGenericService(&service);
  auto queue = builder.AddCompletionQueue();
  auto server = builder.BuildAndStart();
  if (!server || port == 0) {
    std::fprintf(stderr, "echo: cannot listen on port %s\n", argv[1]);
    return 1;
  }
  std::printf("listening 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  // Enough pending accepts that a burst of callers never waits for one.
  for (int i = 0; i < 128; ++i) new Call(&service, queue.get());
  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) static_cast<Call*>(tag)->Advance(ok);
}
