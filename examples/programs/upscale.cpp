// upscale_cpp MODEL.pt2 COARSE.raw X Y Z FINE.raw: float32, component slowest, z fastest. Torch alone, no libflowsr.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

int main(int argc, char **argv) try {
  if (argc != 7) throw std::runtime_error("usage: upscale_cpp MODEL.pt2 COARSE.raw X Y Z FINE.raw");
  const int64_t x = std::stoll(argv[3]), y = std::stoll(argv[4]), z = std::stoll(argv[5]);
  torch::inductor::AOTIModelPackageLoader model(argv[1]);
  const int64_t components = std::stoll(model.get_metadata().at("components"));

  std::vector<float> values(components * x * y * z);
  std::ifstream input(argv[2], std::ios::binary);
  if (!input.read(reinterpret_cast<char *>(values.data()), values.size() * sizeof(float)))
    throw std::runtime_error(std::string(argv[2]) + ": fewer values than said");

  c10::InferenceMode guard;
  const at::Tensor coarse = at::from_blob(values.data(), {components, x, y, z}, at::kFloat);
  const at::Tensor fine = model.run({coarse})[0].contiguous();

  std::ofstream output(argv[6], std::ios::binary);
  output.write(reinterpret_cast<const char *>(fine.data_ptr<float>()), fine.nbytes());
  std::cout << fine.size(1) << " x " << fine.size(2) << " x " << fine.size(3) << " cells\n";
  return output ? 0 : 1;
} catch (const std::exception &error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
