// cuDNN's fused attention and convolution behind a C interface. libcudnn is opened at the first
// operation, so it need not exist on the machine that builds the worker, nor on one that runs it
// without a GPU.
//
// Every function returns 0, or 1 with a message in `error`.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <unordered_map>
#include <vector>

namespace fe = cudnn_frontend;

namespace cudnn_frontend {
void *cudnn_dlhandle = nullptr;
}

namespace {

struct Plan {
    fe::graph::Graph graph;
};

int fail(char *error, size_t size, const std::string &message) {
    std::snprintf(error, size, "%s", message.c_str());
    return 1;
}

// Runs `body`, which returns an empty string or an error message. Exceptions become messages, since
// they must not cross into Rust.
template <typename Body>
int guarded(char *error, size_t size, Body body) {
    try {
        const std::string message = body();
        return message.empty() ? 0 : fail(error, size, message);
    } catch (const std::exception &e) {
        return fail(error, size, e.what());
    } catch (...) {
        return fail(error, size, "unknown C++ exception");
    }
}

std::string message(fe::error_t status) {
    return status.is_bad() ? status.get_message() : "";
}

std::unique_ptr<Plan> new_plan(fe::DataType_t io) {
    auto plan = std::make_unique<Plan>();
    plan->graph.set_io_data_type(io)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    return plan;
}

auto tensor(int64_t uid, const int64_t *dims, const int64_t *strides) {
    return fe::graph::Tensor_attributes()
        .set_uid(uid)
        .set_dim(std::vector<int64_t>(dims, dims + 4))
        .set_stride(std::vector<int64_t>(strides, strides + 4));
}

auto attention_options(float scale, int causal) {
    auto options = fe::graph::SDPA_attributes();
    options.set_generate_stats(false).set_attn_scale(scale);
    if (causal) {
        options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
            .set_diagonal_band_right_bound(0);
    }
    return options;
}

// Builds the plan that cuDNN's heuristics rank first.
std::string finish(cudnnHandle_t handle, std::unique_ptr<Plan> plan, bool tensor_cores,
                   void **out, int64_t *workspace) {
    auto &graph = plan->graph;
    for (const auto &step : {
             +[](fe::graph::Graph &g, cudnnHandle_t) { return g.validate(); },
             +[](fe::graph::Graph &g, cudnnHandle_t h) { return g.build_operation_graph(h); },
             +[](fe::graph::Graph &g, cudnnHandle_t) {
                 return g.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
             },
         }) {
        const auto problem = message(step(graph, handle));
        if (!problem.empty()) {
            return problem;
        }
    }
    if (!tensor_cores) {
        // For float32, tensor cores would compute in TF32 with its 10-bit mantissa.
        graph.deselect_numeric_notes({fe::NumericalNote_t::TENSOR_CORE});
    }
    auto problem = message(graph.check_support());
    if (problem.empty()) {
        problem = message(graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE));
    }
    if (problem.empty()) {
        problem = message(graph.get_workspace_size(*workspace));
    }
    if (problem.empty()) {
        *out = plan.release();
    }
    return problem;
}

} // namespace

extern "C" {

// Opens libcudnn and creates a handle on the current CUDA context.
int ovis_cudnn_open(void **handle, char *error, size_t size) {
    return guarded(error, size, [&]() -> std::string {
        if (fe::cudnn_dlhandle == nullptr) {
            fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_GLOBAL);
        }
        if (fe::cudnn_dlhandle == nullptr) {
            const char *reason = dlerror();
            return reason ? reason : "libcudnn.so.9 cannot be opened";
        }
        cudnnHandle_t created = nullptr;
        const auto status = fe::detail::create_handle(&created);
        if (status != CUDNN_STATUS_SUCCESS) {
            return std::string("cudnnCreate failed: ") + fe::detail::get_error_string(status);
        }
        *handle = created;
        return "";
    });
}

// Version of the opened library: 10000 * major + 100 * minor + patch level.
int ovis_cudnn_version(size_t *version, char *error, size_t size) {
    return guarded(error, size, [&]() -> std::string {
        *version = fe::detail::get_backend_version();
        return "";
    });
}

// softmax(q k^T * scale) v in bf16. Dimensions and strides (in elements) are in
// the order [batch, heads, tokens, head dim]; k and v may have fewer heads.
// Tensors are numbered q 1, k 2, v 3, output 4.
int ovis_cudnn_attention(void *handle, const int64_t *q_dims, const int64_t *q_strides,
                         const int64_t *kv_dims, const int64_t *k_strides,
                         const int64_t *v_strides, const int64_t *o_strides, float scale,
                         int causal, void **plan, int64_t *workspace, char *error, size_t size) {
    return guarded(error, size, [&] {
        auto made = new_plan(fe::DataType_t::BFLOAT16);
        auto &graph = made->graph;
        auto q = graph.tensor(tensor(1, q_dims, q_strides));
        auto k = graph.tensor(tensor(2, kv_dims, k_strides));
        auto v = graph.tensor(tensor(3, kv_dims, v_strides));
        auto o = graph.sdpa(q, k, v, attention_options(scale, causal))[0];
        o->set_output(true)
            .set_uid(4)
            .set_dim(std::vector<int64_t>(q_dims, q_dims + 4))
            .set_stride(std::vector<int64_t>(o_strides, o_strides + 4));
        return finish(static_cast<cudnnHandle_t>(handle), std::move(made), true, plan, workspace);
    });
}

// The same for E4M3 inputs and output: the frontend rejects a bf16 output below compute capability
// 10. Tensors 5 to 12 are single floats in device memory: the factors that dequantize q, k, v and
// the weights, the factors that quantize the weights (0 to 1) and the output, and, written by
// cuDNN, the largest weight and the largest output. `unified` selects cuDNN's single SDPA operation
// (9.25 or newer) instead of a graph of products and a softmax.
int ovis_cudnn_attention_fp8(void *handle, const int64_t *q_dims, const int64_t *q_strides,
                             const int64_t *kv_dims, const int64_t *k_strides,
                             const int64_t *v_strides, const int64_t *o_strides, float scale,
                             int causal, int unified, void **plan, int64_t *workspace,
                             char *error, size_t size) {
    return guarded(error, size, [&] {
        auto made = new_plan(fe::DataType_t::FP8_E4M3);
        auto &graph = made->graph;
        const auto number = [](int64_t uid) {
            const int64_t ones[4] = {1, 1, 1, 1};
            return tensor(uid, ones, ones).set_data_type(fe::DataType_t::FLOAT);
        };
        auto options = attention_options(scale, causal);
        options.set_implementation(unified ? fe::AttentionImplementation_t::UNIFIED
                                           : fe::AttentionImplementation_t::COMPOSITE);
        auto [o, stats, largest_weight, largest_output] = graph.sdpa_fp8(
            graph.tensor(tensor(1, q_dims, q_strides)),
            graph.tensor(tensor(2, kv_dims, k_strides)),
            graph.tensor(tensor(3, kv_dims, v_strides)), graph.tensor(number(5)),
            graph.tensor(number(6)), graph.tensor(number(7)), graph.tensor(number(8)),
            graph.tensor(number(9)), graph.tensor(number(10)), options);
        o->set_output(true)
            .set_uid(4)
            .set_dim(std::vector<int64_t>(q_dims, q_dims + 4))
            .set_stride(std::vector<int64_t>(o_strides, o_strides + 4))
            .set_data_type(fe::DataType_t::FP8_E4M3);
        int64_t uid = 11;
        for (const auto &found : {largest_weight, largest_output}) {
            found->set_output(true)
                .set_uid(uid++)
                .set_dim({1, 1, 1, 1})
                .set_stride({1, 1, 1, 1})
                .set_data_type(fe::DataType_t::FLOAT);
        }
        return finish(static_cast<cudnnHandle_t>(handle), std::move(made), true, plan, workspace);
    });
}

// A square convolution of [batch, channels, height, width] tensors, padded with `before` zeros at
// the top and left and `after` at the bottom and right. Tensors are numbered input 1, weight 2,
// output 3.
int ovis_cudnn_convolution(void *handle, int is_bf16, const int64_t *x_dims,
                           const int64_t *x_strides, const int64_t *w_dims,
                           const int64_t *w_strides, const int64_t *y_dims,
                           const int64_t *y_strides, int64_t stride, int64_t before,
                           int64_t after, void **plan, int64_t *workspace, char *error,
                           size_t size) {
    return guarded(error, size, [&] {
        auto made = new_plan(is_bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::FLOAT);
        auto &graph = made->graph;
        auto x = graph.tensor(tensor(1, x_dims, x_strides));
        auto w = graph.tensor(tensor(2, w_dims, w_strides));
        auto y = graph.conv_fprop(x, w,
                                  fe::graph::Conv_fprop_attributes()
                                      .set_pre_padding({before, before})
                                      .set_post_padding({after, after})
                                      .set_stride({stride, stride})
                                      .set_dilation({1, 1}));
        y->set_output(true)
            .set_uid(3)
            .set_dim(std::vector<int64_t>(y_dims, y_dims + 4))
            .set_stride(std::vector<int64_t>(y_strides, y_strides + 4));
        return finish(static_cast<cudnnHandle_t>(handle), std::move(made), is_bf16 != 0, plan,
                      workspace);
    });
}

// Frees a plan, which must not be running.
void ovis_cudnn_free(void *plan) { delete static_cast<Plan *>(plan); }

// Enqueues a plan on a stream. `pointers[i]` is the address of tensor i + 1.
int ovis_cudnn_run(void *handle, void *plan, void *stream, const uint64_t *pointers, size_t count,
                   uint64_t workspace, char *error, size_t size) {
    return guarded(error, size, [&]() -> std::string {
        const auto cudnn = static_cast<cudnnHandle_t>(handle);
        if (fe::detail::set_stream(cudnn, static_cast<cudaStream_t>(stream)) !=
            CUDNN_STATUS_SUCCESS) {
            return "cudnnSetStream failed";
        }
        std::unordered_map<int64_t, void *> pack;
        for (size_t i = 0; i < count; ++i) {
            pack[int64_t(i) + 1] = reinterpret_cast<void *>(pointers[i]);
        }
        return message(static_cast<Plan *>(plan)->graph.execute(
            cudnn, pack, reinterpret_cast<void *>(workspace)));
    });
}

} // extern "C"
