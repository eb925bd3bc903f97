// The part of TensorFlow Lite's C interface that a delegate touches.
//
// The wheels of tensorflow and ai-edge-litert ship no headers and export no C
// functions, and need none: a delegate is called through these structs alone.
// They are "semi-ABI stable" (tflite/core/c/common.h): fields are added at the
// end only. Names and order follow common.h and builtin_op_data.h of 2.20 to
// 2.21 and LiteRT 2.1 to 2.3; graph.cc checks what can be checked of a running
// interpreter before anything else is read.
#ifndef TF_POF_RUNTIME_CC_TFLITE_ABI_H_
#define TF_POF_RUNTIME_CC_TFLITE_ABI_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  kTfLiteOk = 0,
  kTfLiteError = 1,
  kTfLiteDelegateError = 2,
} TfLiteStatus;

// TfLiteType.
enum {
  kTfLiteNoType = 0,
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteInt64 = 4,
  kTfLiteBool = 6,
  kTfLiteInt16 = 7,
  kTfLiteInt8 = 9,
  kTfLiteFloat16 = 10,
  kTfLiteFloat64 = 11,
};

enum { kTfLiteMmapRo = 1 };              // TfLiteAllocationType
enum { kTfLiteAffineQuantization = 1 };  // TfLiteQuantizationType
enum { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };

// TfLiteFusedActivation.
enum {
  kTfLiteActNone = 0,
  kTfLiteActRelu = 1,
  kTfLiteActReluN1To1 = 2,
  kTfLiteActRelu6 = 3,
};

// TfLiteBuiltinOperator.
enum {
  kTfLiteBuiltinAdd = 0,
  kTfLiteBuiltinDequantize = 6,
  kTfLiteBuiltinFullyConnected = 9,
  kTfLiteBuiltinMul = 18,
  kTfLiteBuiltinReshape = 22,
  kTfLiteBuiltinSoftmax = 25,
  kTfLiteBuiltinTanh = 28,
  kTfLiteBuiltinCustom = 32,
  kTfLiteBuiltinGather = 36,
  kTfLiteBuiltinTranspose = 39,
  kTfLiteBuiltinMean = 40,
  kTfLiteBuiltinSub = 41,
  kTfLiteBuiltinStridedSlice = 45,
  kTfLiteBuiltinDelegate = 51,
  kTfLiteBuiltinCast = 53,
  kTfLiteBuiltinRsqrt = 76,
  kTfLiteBuiltinSquaredDifference = 99,
  kTfLiteBuiltinQuantize = 114,
  kTfLiteBuiltinBatchMatmul = 126,
  kTfLiteBuiltinGelu = 150,
};

typedef struct {
  int size;
  int data[];
} TfLiteIntArray;

typedef struct {
  int size;
  float data[];
} TfLiteFloatArray;

typedef struct {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;

typedef struct {
  int type;
  void* params;  // TfLiteAffineQuantizationParams
} TfLiteQuantization;

// common.h calls it TfLiteAffineQuantization.
typedef struct {
  TfLiteFloatArray* scale;
  TfLiteIntArray* zero_point;
  int32_t quantized_dimension;
} TfLiteAffineQuantizationParams;

typedef struct TfLiteDelegate TfLiteDelegate;
typedef struct TfLiteContext TfLiteContext;

typedef struct {
  int type;
  union {
    void* data;
    int8_t* int8;
    int32_t* i32;
    float* f;
  } data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  TfLiteQuantization quantization;
  void* sparsity;  // of the stock sparse encoding, or null
  // -1 where a dimension is not known; null or empty if all are.
  const TfLiteIntArray* dims_signature;
} TfLiteTensor;

typedef struct {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate* delegate;
  bool might_have_side_effect;
} TfLiteNode;

typedef struct {
  void* (*init)(TfLiteContext*, const char* buffer, size_t length);
  void (*free)(TfLiteContext*, void* buffer);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
} TfLiteRegistration;

typedef struct {
  TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
} TfLiteDelegateParams;

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray** plan);
  TfLiteTensor* tensors;
  void* impl_;
  TfLiteStatus (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray*);
  void (*ReportError)(TfLiteContext*, const char* format, ...);
  TfLiteStatus (*AddTensors)(TfLiteContext*, int count, int* first);
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext*, int node_index,
                                         TfLiteNode** node,
                                         TfLiteRegistration** registration);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(
      TfLiteContext*, TfLiteRegistration, const TfLiteIntArray* nodes,
      TfLiteDelegate*);
  int recommended_num_threads;
  void* (*GetExternalContext)(TfLiteContext*, int type);
  void (*SetExternalContext)(TfLiteContext*, int type, void*);
  bool allow_fp32_relax_to_fp16;
  void* profiler;
  void* (*AllocatePersistentBuffer)(TfLiteContext*, size_t bytes);
  TfLiteStatus (*AllocateBufferForEval)(TfLiteContext*, size_t, void**);
  TfLiteStatus (*RequestScratchBufferInArena)(TfLiteContext*, size_t, int*);
  void* (*GetScratchBuffer)(TfLiteContext*, int index);
  void* ResizeTensorExplicit;  // null in many versions
  // The partitions belong to the context until the next call.
  TfLiteStatus (*PreviewDelegatePartitioning)(TfLiteContext*,
                                              const TfLiteIntArray* nodes,
                                              TfLiteDelegateParams** partitions,
                                              int* num_partitions);
};

struct TfLiteDelegate {
  void* data_;
  TfLiteStatus (*Prepare)(TfLiteContext*, TfLiteDelegate*);
  void* CopyFromBufferHandle;
  void* CopyToBufferHandle;
  void* FreeBufferHandle;
  int64_t flags;
  void* opaque_delegate_builder;
};

// What `builtin_data` points to, as far as it is read.
typedef struct {
  int activation;
  int weights_format;  // 0: [outputs, inputs]
  bool keep_num_dims;
} TfLiteFullyConnectedParams;

typedef struct {
  int activation;
} TfLiteArithmeticParams;  // of ADD, SUB and MUL

typedef struct {
  bool keep_dims;
} TfLiteReducerParams;

typedef struct {
  int axis;
  int batch_dims;
} TfLiteGatherParams;

typedef struct {
  float beta;
} TfLiteSoftmaxParams;

typedef struct {
  bool adj_x;
  bool adj_y;
} TfLiteBatchMatMulParams;

typedef struct {
  bool approximate;
} TfLiteGeluParams;

typedef struct {
  int begin_mask;
  int end_mask;
  int ellipsis_mask;
  int new_axis_mask;
  int shrink_axis_mask;
  bool offset;
} TfLiteStridedSliceParams;

#ifdef __cplusplus
}
#endif

#endif  // TF_POF_RUNTIME_CC_TFLITE_ABI_H_
