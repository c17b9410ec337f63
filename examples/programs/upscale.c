/* upscale_c MODEL.pt2 COARSE.raw X Y Z FINE.raw: float32, component slowest, z fastest. */
#include <stdio.h>
#include <stdlib.h>

#include "flowsr.h"

int main(int argc, char **argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: upscale_c MODEL.pt2 COARSE.raw X Y Z FINE.raw\n");
    return 2;
  }
  flowsr_model *model = flowsr_load(argv[1]);
  if (!model) {
    fprintf(stderr, "error: %s\n", flowsr_error());
    return 2;
  }
  const int64_t shape[3] = {atoll(argv[3]), atoll(argv[4]), atoll(argv[5])};
  const size_t cells = (size_t)(shape[0] * shape[1] * shape[2]), parts = (size_t)flowsr_factor(model);
  const size_t count = 3 * cells, fine_count = count * parts * parts * parts;
  float *coarse = malloc(count * sizeof *coarse), *fine = malloc(fine_count * sizeof *fine);
  FILE *input = fopen(argv[2], "rb"), *output = fopen(argv[6], "wb");
  int bad = !coarse || !fine || !input || !output || fread(coarse, sizeof *coarse, count, input) != count;
  if (bad) {
    fprintf(stderr, "error: %s cannot be read, or %s not be written\n", argv[2], argv[6]);
  } else if ((bad = flowsr_upscale_float(model, shape, coarse, fine, FLOWSR_C))) {
    fprintf(stderr, "error: %s\n", flowsr_error());
  } else {
    bad = fwrite(fine, sizeof *fine, fine_count, output) != fine_count;
  }
  if (input) fclose(input);
  if (output) bad |= fclose(output) != 0;
  free(coarse), free(fine), flowsr_free(model);
  return bad ? 2 : 0;
}
