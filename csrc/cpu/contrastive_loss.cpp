#include "contrastive_loss.h"

#include <bit>
#include <cmath>
#include <vector>

namespace usvs::cpu {
namespace {
double load(float x) { return x; }
double load(double x) { return x; }
double load(BFloat16 x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }
void store(float* p, double x) { *p = float(x); }
void store(double* p, double x) { *p = x; }
void store(BFloat16* p, double x) {
  uint32_t u = std::bit_cast<uint32_t>(float(x));
  p->bits = std::isnan(x) ? 0x7fc0 : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
template <typename Input>
double dot(const Input* x, const Input* y, int64_t d) {
  double s = 0;
  for (int64_t k = 0; k < d; ++k) s += load(x[k]) * load(y[k]);
  return s;
}
}  // namespace
template <typename Input>
void contrastive_loss_forward(const ContrastiveLossParams<Input>& p, const Threads& threads) {
  threads.for_each(p.rows, [&](int64_t i) {
    const int64_t d = p.width;
    const Input* v = p.anchors + i * d;
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < p.columns; ++k) {
      if (k == p.self_index[i]) continue;
      double l = dot(v, p.candidates + k * d, d) / p.temperature;
      if (l > top) { sum = sum * std::exp(top - l) + 1; top = l; } else sum += std::exp(l - top);
    }
    double lse = top + std::log(sum);
    double a = dot(v, p.positives + i * d, d) / p.temperature, m = a - dot(v, p.hard_negatives + i * d, d) / p.temperature, g = 0;
    if (p.form == ContrastiveForm::eq2) {
      double f = p.margin_floor;
      g = m >= f ? std::log(-std::expm1(-m)) : std::log(-std::expm1(-f)) + (m - f) / std::expm1(f);
    }
    p.losses[i] = -a - g + lse;
    p.logsumexp[i] = lse;
  });
}
template <typename Input>
void contrastive_loss_backward(const ContrastiveLossParams<Input>& p, const Threads&) {
  const int64_t d = p.width;
  std::vector<double> gc(p.columns * d, 0.0), gv(d);
  for (int64_t i = 0; i < p.rows; ++i) {
    const Input *v = p.anchors + i * d, *s = p.positives + i * d, *h = p.hard_negatives + i * d;
    double w = p.losses_grad[i] / p.temperature, m = (dot(v, s, d) - dot(v, h, d)) / p.temperature, slope = 0;
    if (p.form == ContrastiveForm::eq2) slope = 1 / std::expm1(m >= p.margin_floor ? m : p.margin_floor);
    for (int64_t k = 0; k < d; ++k) {
      gv[k] = w * (-(1 + slope) * load(s[k]) + slope * load(h[k]));
      store(p.positives_grad + i * d + k, -(1 + slope) * w * load(v[k]));
      store(p.hard_negatives_grad + i * d + k, slope * w * load(v[k]));
    }
    for (int64_t c = 0; c < p.columns; ++c) {
      if (c == p.self_index[i]) continue;
      const Input* y = p.candidates + c * d;
      double e = w * std::exp(dot(v, y, d) / p.temperature - p.logsumexp[i]);
      for (int64_t k = 0; k < d; ++k) { gv[k] += e * load(y[k]); gc[c * d + k] += e * load(v[k]); }
    }
    for (int64_t k = 0; k < d; ++k) store(p.anchors_grad + i * d + k, gv[k]);
  }
  for (int64_t k = 0; k < p.columns * d; ++k) store(p.candidates_grad + k, gc[k]);
}
template void contrastive_loss_forward(const ContrastiveLossParams<float>&, const Threads&);
template void contrastive_loss_forward(const ContrastiveLossParams<double>&, const Threads&);
template void contrastive_loss_forward(const ContrastiveLossParams<BFloat16>&, const Threads&);
template void contrastive_loss_backward(const ContrastiveLossParams<float>&, const Threads&);
template void contrastive_loss_backward(const ContrastiveLossParams<double>&, const Threads&);
template void contrastive_loss_backward(const ContrastiveLossParams<BFloat16>&, const Threads&);
}  // namespace usvs::cpu
