#include <math.h>

#include "buffer.h"
#include "fully_connected.h"

void TfPofGeluTable(float input_scale, int32_t input_zero_point,
                    float output_scale, int32_t output_zero_point,
                    int32_t approximate, int8_t table[256]) {
  const float inverse = 1.0f / output_scale;
  for (int32_t i = -128; i <= 127; ++i) {
    const float x = static_cast<float>(i - input_zero_point) * input_scale;
    float y;
    if (approximate) {
      const float kSqrt2OverPi = 0.797884560802865f;
      y = 0.5f * x * (1.0f + tanhf(kSqrt2OverPi * (x + 0.044715f * x * x * x)));
    } else {
      // erfc keeps its precision where x is far below zero.
      y = x * 0.5f * erfcf(x * -0.707106781186547524f);
    }
    const float rounded = roundf(y * inverse);
    const float shifted = rounded + static_cast<float>(output_zero_point);
    table[i + 128] =
        static_cast<int8_t>(tf_pof::Max(tf_pof::Min(shifted, 127.0f), -128.0f));
  }
}
