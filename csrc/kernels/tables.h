// The tables of a level whose arithmetic is written over Vec.

constexpr Kernels float32_table(const char* level, unsigned needs) {
  return {.level = level,
          .dtype = "float32",
          .needs = needs,
          .panel = kPanel,
          .head_group = kGroup,
          .weight_bytes = weight_bytes<FloatWeight>,
          .pack_weight = pack_weight<FloatWeight>,
          .operand_bytes = FloatOperand::bytes,
          .heads_bytes = heads_bytes,
          .linear_scratch = linear_scratch<FloatWeight>,
          .attention_scratch = attention_scratch,
          .vectors_bytes = vectors_bytes,
          .pack_vectors = pack_vectors,
          .vectors_scratch = vectors_scratch,
          .embed = embed,
          .embed_mean = embed_mean,
          .norm = norm<FloatOperand>,
          .norm_mean = norm_mean,
          .linear = linear<FloatWeight>,
          .attention = attention,
          .to_float = to_float,
          .add = add,
          .convert = convert<FloatOperand>,
          .gate = gate<FloatOperand>,
          .rotate = rotate,
          .norm_heads = norm_heads<FloatHeads>,
          .peak = float32_peak};
}

constexpr Kernels bfloat16_table(const char* level, unsigned needs) {
  Kernels table = float32_table(level, needs);
  table.dtype = "bfloat16";
  table.weight_bytes = weight_bytes<Bf16Weight>;
  table.pack_weight = pack_weight<Bf16Weight>;
  table.linear_scratch = linear_scratch<Bf16Weight>;
  table.linear = linear<Bf16Weight>;
  return table;
}

constexpr Kernels int8_table(const char* level, unsigned needs) {
  Kernels table = float32_table(level, needs);
  table.dtype = "int8";
  table.panel = kInt8Panel;
  table.weight_bytes = int8_weight_bytes;
  table.pack_weight = pack_int8_weight;
  table.operand_bytes = Int8Operand::bytes;
  table.linear_scratch = [](int) -> size_t { return 0; };
  table.norm = norm<Int8Operand>;
  table.linear = linear_int8;
  table.convert = convert<Int8Operand>;
  table.gate = gate<Int8Operand>;
  table.converts_inner = table.converts_context = true;
  table.peak = int8_peak;
  return table;
}
