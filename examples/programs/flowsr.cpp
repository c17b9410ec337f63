#include "flowsr.h"

#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

struct flowsr_model {
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
  std::unordered_map<std::string, std::string> about;
  int64_t factor, components, frames, halo;
  at::ScalarType precision;
};

namespace {

thread_local std::string failure;

int failed(const std::exception &error) {
  failure = error.what();
  failure = failure.substr(0, failure.find('\n'));
  return -1;
}

/* A caller's array as a tensor (component, x, y, z), nothing copied. */
at::Tensor view(const void *data, int64_t c, int64_t x, int64_t y, int64_t z, int order, at::ScalarType type) {
  std::vector<int64_t> strides = order == FLOWSR_FORTRAN ? std::vector<int64_t>{x * y * z, 1, x, x * y}
                                                         : std::vector<int64_t>{x * y * z, y * z, z, 1};
  return at::from_blob(const_cast<void *>(data), {c, x, y, z}, strides, at::TensorOptions(type));
}

int upscale(flowsr_model *model, const int64_t *shape, const void *coarse, const double *mean, double fluctuation,
            void *fine, int order, at::ScalarType type) {
  try {
    if (!model) throw std::runtime_error("no model: flowsr_load failed");
    c10::InferenceMode guard;
    const int64_t x = shape[0], y = shape[1], z = shape[2], f = model->factor;
    const bool tile = model->about["graph"] == "tile";
    if (tile != (mean != nullptr))
      throw std::runtime_error("this file holds the graph '" + model->about["graph"] + "', which another function runs");
    const std::string given = std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z);
    const std::string &size = model->about["size"];
    if (!tile && size != "any" && size != given)
      throw std::runtime_error("this file is for " + size + " cells, got " + given);
    at::Tensor field = view(coarse, model->components * model->frames, x, y, z, order, type);
    std::vector<at::Tensor> inputs{field.to(model->precision).contiguous()};
    if (tile) {
      inputs.push_back(at::from_blob(const_cast<double *>(mean), {model->components}, at::kDouble).clone());
      inputs.push_back(at::scalar_tensor(fluctuation, at::TensorOptions(at::kDouble)));
    }
    if (model->about["AOTI_DEVICE_KEY"] == "cuda")
      for (at::Tensor &input : inputs) input = input.to(at::kCUDA);
    const at::Tensor result = model->loader->run(inputs)[0];
    const int64_t h = tile ? 2 * model->halo : 0;
    view(fine, model->components, f * (x - h), f * (y - h), f * (z - h), order, type).copy_(result);
    return 0;
  } catch (const std::exception &error) {
    return failed(error);
  }
}

}  // namespace

extern "C" {

flowsr_model *flowsr_load(const char *path) {
  try {
    auto model = std::make_unique<flowsr_model>();
    model->loader = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path);
    model->about = model->loader->get_metadata();
    if (!model->about.count("factor")) throw std::runtime_error(std::string(path) + ": not made by flowsr export");
    const auto number = [&](const char *key) { return std::stoll(model->about.at(key)); };
    model->factor = number("factor"), model->components = number("components"), model->frames = number("frames");
    model->halo = model->about["halo"] == "whole" ? 0 : number("halo");
    model->precision = model->about["precision"] == "float64" ? at::kDouble : at::kFloat;
    return model.release();
  } catch (const std::exception &error) {
    failed(error);
    return nullptr;
  }
}

void flowsr_free(flowsr_model *model) { delete model; }

const char *flowsr_error(void) { return failure.c_str(); }

const char *flowsr_about(const flowsr_model *model, const char *key) {
  const auto found = model->about.find(key);
  return found == model->about.end() ? nullptr : found->second.c_str();
}

int flowsr_factor(const flowsr_model *model) { return static_cast<int>(model->factor); }

int flowsr_upscale(flowsr_model *model, const int64_t shape[3], const double *coarse, double *fine, int order) {
  return upscale(model, shape, coarse, nullptr, 0, fine, order, at::kDouble);
}

int flowsr_upscale_float(flowsr_model *model, const int64_t shape[3], const float *coarse, float *fine, int order) {
  return upscale(model, shape, coarse, nullptr, 0, fine, order, at::kFloat);
}

int flowsr_upscale_tile(flowsr_model *model, const int64_t shape[3], const double *coarse, const double *mean,
                        double fluctuation, double *fine, int order) {
  return upscale(model, shape, coarse, mean, fluctuation, fine, order, at::kDouble);
}
}
