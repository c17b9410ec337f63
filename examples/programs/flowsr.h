/* Upscale turbulence from C, or from anything that can call C. Files come from `flowsr export MODEL OUT.pt2`.
 *
 * Fields are in the caller's units and frame. A field of c components on x * y * z cells is one array, either
 *   FLOWSR_C        component slowest, then x, y, and z fastest:        field[c][x][y][z]
 *   FLOWSR_FORTRAN  x fastest, then y, z, and the component slowest:    field(x, y, z, c)
 * The fine field has factor times as many cells along each side, in the same order.
 *
 * Functions that return int return 0, or -1 with the reason in flowsr_error(). A model may be used by one thread at a
 * time; several threads load it several times.
 */
#ifndef FLOWSR_H
#define FLOWSR_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct flowsr_model flowsr_model;

enum { FLOWSR_C = 0, FLOWSR_FORTRAN = 1 };

/* NULL with the reason in flowsr_error(). */
flowsr_model *flowsr_load(const char *path);
void flowsr_free(flowsr_model *model);

/* The last failure in this thread, one line. */
const char *flowsr_error(void);

/* "factor", "components", "frames", "halo", "boundary", "size", "precision", "graph" and more; NULL if not known. */
const char *flowsr_about(const flowsr_model *model, const char *key);
int flowsr_factor(const flowsr_model *model);

/* A whole coarse field to the whole fine one, by a `field` graph. shape: coarse cells along x, y, z. */
int flowsr_upscale(flowsr_model *model, const int64_t shape[3], const double *coarse, double *fine, int order);
int flowsr_upscale_float(flowsr_model *model, const int64_t shape[3], const float *coarse, float *fine, int order);

/* A part of a field, by a `tile` graph (flowsr export --tile). shape: cells with the halo on both sides of each axis;
 * the fine array is that of the part without its halo. mean: of every component over the whole field (0 along an axis
 * with walls); fluctuation: square root of the mean over the whole field of |u - mean|^2, all components together. */
int flowsr_upscale_tile(flowsr_model *model, const int64_t shape[3], const double *coarse, const double *mean,
                        double fluctuation, double *fine, int order);

#ifdef __cplusplus
}
#endif
#endif
