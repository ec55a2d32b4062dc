// What an expert would write in C++: ModelInfer of the Open Inference Protocol over gRPC's callback API, on the OpenVINO
// runtime with its default precision (bfloat16 where the processor has it), each call by a request of a pool.
//
// Usage: openvino_server PORT NAME=FILE.onnx ... [--streams N] [--threads N] [--requests N] [--sync 1] [--fixed 1]
//                        [--stub 1]
// --sync infers on gRPC's thread, --fixed compiles a graph of fixed shape for each batch size that comes, --stub answers
// zeros without inference: what the server costs by itself. Prints "listening HOST:PORT".
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

#include "inference/open_inference.grpc.pb.h"

namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;

struct Options {
  int streams = 0, threads = 0, requests = 0;  // 0: as OpenVINO chooses
  bool sync = false, fixed = false, stub = false;
};

struct Call {
  const ModelInferRequest* request;
  ModelInferResponse* response;
  grpc::ServerUnaryReactor* reactor;
};

grpc::Status Invalid(const std::string& text) { return {grpc::StatusCode::INVALID_ARGUMENT, text}; }

// One graph and its pool of infer requests. A call that finds none free waits its turn.
class Model {
 public:
  Model(ov::Core* core, const std::string& name, std::shared_ptr<ov::Model> graph, const Options& options)
      : name_(name), options_(options) {
    ov::AnyMap settings{ov::hint::performance_mode(ov::hint::PerformanceMode::THROUGHPUT)};
    if (options.streams) settings.emplace(ov::num_streams(options.streams));
    if (options.threads) settings.emplace(ov::inference_num_threads(options.threads));
    compiled_ = core->compile_model(graph, "CPU", settings);
    input_ = compiled_.input().get_element_type();
    rest_ = compiled_.input().get_partial_shape();
    output_ = compiled_.output().get_partial_shape();
    int count = options.requests ? options.requests : compiled_.get_property(ov::optimal_number_of_infer_requests);
    for (int i = 0; i < count; ++i) {
      auto slot = std::make_unique<Slot>();
      slot->request = compiled_.create_infer_request();
      if (!options.sync) {
        slot->request.set_callback([this, slot = slot.get()](std::exception_ptr error) { Ended(slot, error); });
      }
      free_.push_back(slot.get());
      slots_.push_back(std::move(slot));
    }
  }

  void Run(Call call) {
    const auto& request = *call.request;
    if (request.inputs_size() != 1 || request.raw_input_contents_size() != 1) {
      return call.reactor->Finish(Invalid("expected one input, and its raw contents"));
    }
    const auto& shape = request.inputs(0).shape();
    ov::Shape got(shape.begin(), shape.end());
    const std::string& bytes = request.raw_input_contents(0);
    if (!rest_.compatible(got) || ov::shape_size(got) * input_.size() != bytes.size()) {
      return call.reactor->Finish(Invalid("expected the shape of the graph's input and as many bytes"));
    }
    if (options_.stub) {
      ov::PartialShape shape_out = output_;
      shape_out[0] = got[0];
      auto answer = shape_out.to_shape();
      std::vector<float> zeros(ov::shape_size(answer));
      Fill(call, answer, zeros.data());
      return call.reactor->Finish(grpc::Status::OK);
    }
    Slot* slot = Take(call);
    if (slot != nullptr) Begin(slot, call);
  }

 private:
  struct Slot {
    ov::InferRequest request;
    Call call;
  };

  // A free request, or none: then the call has joined the queue.
  Slot* Take(const Call& call) {
    std::unique_lock lock(mutex_);
    if (options_.sync) freed_.wait(lock, [this] { return !free_.empty(); });
    if (free_.empty()) {
      waiting_.push_back(call);
      return nullptr;
    }
    Slot* slot = free_.back();
    free_.pop_back();
    return slot;
  }

  void Begin(Slot* slot, const Call& call) {
    slot->call = call;
    const auto& shape = call.request->inputs(0).shape();
    // The bytes of the message are the tensor: nothing is copied.
    void* bytes = const_cast<char*>(call.request->raw_input_contents(0).data());
    slot->request.set_input_tensor(ov::Tensor(input_, ov::Shape(shape.begin(), shape.end()), bytes));
    if (!options_.sync) return slot->request.start_async();
    slot->request.infer();
    Answer(slot);
    std::lock_guard lock(mutex_);
    free_.push_back(slot);
    freed_.notify_one();
  }

  void Ended(Slot* slot, std::exception_ptr error) {
    if (error) {
      slot->call.reactor->Finish({grpc::StatusCode::INTERNAL, "the graph failed"});
    } else {
      Answer(slot);
    }
    Call next;
    {
      std::lock_guard lock(mutex_);
      if (waiting_.empty()) {
        free_.push_back(slot);
        return;
      }
      next = waiting_.front();
      waiting_.pop_front();
    }
    Begin(slot, next);
  }

  void Answer(Slot* slot) {
    ov::Tensor answer = slot->request.get_output_tensor();
    Fill(slot->call, answer.get_shape(), answer.data<float>());
    slot->call.reactor->Finish(grpc::Status::OK);
  }

  void Fill(const Call& call, const ov::Shape& shape, const float* values) {
    call.response->set_model_name(name_);
    auto* output = call.response->add_outputs();
    output->set_name("output");
    output->set_datatype("FP32");
    for (size_t size : shape) output->add_shape(static_cast<int64_t>(size));
    call.response->add_raw_output_contents(values, ov::shape_size(shape) * sizeof(float));
  }

  std::string name_;
  Options options_;
  ov::CompiledModel compiled_;
  ov::element::Type input_;
  ov::PartialShape rest_, output_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<Slot*> free_;
  std::deque<Call> waiting_;
};

// A graph as it is, or one of fixed shape for each batch size.
class Graph {
 public:
  Graph(ov::Core* core, const std::string& name, const std::string& file, const Options& options)
      : core_(core), name_(name), file_(file), options_(options), free_(core, name, core->read_model(file), options) {}

  Model* For(const ModelInferRequest& request) {
    if (!options_.fixed || options_.stub || request.inputs_size() != 1) return &free_;
    const auto& shape = request.inputs(0).shape();
    if (shape.empty() || shape[0] < 1 || shape[0] > kMostRows) return &free_;
    std::lock_guard lock(mutex_);
    auto& found = fixed_[shape[0]];
    if (!found) {
      auto graph = core_->read_model(file_);
      ov::PartialShape wanted = graph->input().get_partial_shape();
      wanted[0] = shape[0];
      graph->reshape(wanted);
      found = std::make_unique<Model>(core_, name_, graph, options_);
    }
    return found.get();
  }

 private:
  static constexpr int kMostRows = 1024;
  ov::Core* core_;
  std::string name_, file_;
  Options options_;
  Model free_;
  std::mutex mutex_;
  std::map<int64_t, std::unique_ptr<Model>> fixed_;
};

// Messages are kept and used again, so that parsing allocates nothing once the server is warm.
class Messages : public grpc::MessageAllocator<ModelInferRequest, ModelInferResponse> {
 public:
  grpc::MessageHolder<ModelInferRequest, ModelInferResponse>* AllocateMessages() override {
    std::lock_guard lock(mutex_);
    if (kept_.empty()) return new Holder(this);
    Holder* holder = kept_.back();
    kept_.pop_back();
    return holder;
  }

 private:
  class Holder : public grpc::MessageHolder<ModelInferRequest, ModelInferResponse> {
   public:
    explicit Holder(Messages* home) : home_(home) {
      set_request(&request_);
      set_response(&response_);
    }
    void Release() override {
      request_.Clear();
      response_.Clear();
      std::lock_guard lock(home_->mutex_);
      home_->kept_.push_back(this);
    }

   private:
    Messages* home_;
    ModelInferRequest request_;
    ModelInferResponse response_;
  };

  std::mutex mutex_;
  std::vector<Holder*> kept_;
};

class Service : public inference::GRPCInferenceService::CallbackService {
 public:
  std::map<std::string, std::unique_ptr<Graph>> models;

  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context, const ModelInferRequest* request,
                                       ModelInferResponse* response) override {
    auto* reactor = context->DefaultReactor();
    auto found = models.find(request->model_name());
    if (found == models.end()) {
      reactor->Finish({grpc::StatusCode::NOT_FOUND, "no such model"});
    } else {
      found->second->For(*request)->Run({request, response, reactor});
    }
    return reactor;
  }
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::map<std::string, std::string> files;
  for (int i = 2; i < argc; ++i) {
    std::string word = argv[i];
    size_t equals = word.find('=');
    if (equals != std::string::npos) {
      files[word.substr(0, equals)] = word.substr(equals + 1);
    } else if (i + 1 < argc) {
      int value = std::stoi(argv[++i]);
      if (word == "--streams") options.streams = value;
      else if (word == "--threads") options.threads = value;
      else if (word == "--requests") options.requests = value;
      else if (word == "--sync") options.sync = value;
      else if (word == "--fixed") options.fixed = value;
      else if (word == "--stub") options.stub = value;
      else files.clear();
    }
  }
  if (argc < 3 || files.empty()) {
    std::fprintf(stderr, "usage: openvino_server PORT NAME=FILE.onnx ... [--streams|threads|requests|sync|fixed|stub N]\n");
    return 2;
  }
  ov::Core core;
  Service service;
  Messages messages;
  service.SetMessageAllocatorFor_ModelInfer(&messages);
  for (const auto& [name, file] : files) {
    service.models[name] = std::make_unique<Graph>(&core, name, file, options);
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(std::string("127.0.0.1:") + argv[1], grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  if (!server || port == 0) {
    std::fprintf(stderr, "openvino_server: cannot listen on port %s\n", argv[1]);
    return 1;
  }
  std::printf("listening 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  server->Wait();
}
