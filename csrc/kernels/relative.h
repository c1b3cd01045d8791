// What attention adds to a score by its key's distance from the query alone: a bias, and the end of the window.

constexpr float kUnseen = -1e30f;  // leaves no share; a number, so that differences of scores stay numbers

// Whether there is anything to add, in a sequence so long.
inline bool is_relative(const Attention& a) { return a.bias || a.window < a.end - a.begin - 1; }

// scores[i] = what is added to the score of a key `first + i` tokens behind its query.
inline void relative_scores(const Attention& a, int head, int first, int count, float* scores) {
  const float* bias = a.bias ? a.bias + (ptrdiff_t)head * (2 * a.reach + 1) + a.reach : nullptr;
  for (int i = 0; i < count; i++) {
    const int distance = first + i, size = distance < 0 ? -distance : distance;
    if (size > a.window)
      scores[i] = kUnseen;
    else
      scores[i] = bias ? bias[size <= a.reach ? distance : distance < 0 ? -a.reach : a.reach] : 0;
  }
}

// The keys, of so many, that a tile of `rows` queries looks at, from a multiple of `step` on: one at least, even where a query's
// window ends behind the last.
struct KeyRange {
  int begin, end;
};
inline KeyRange keys_seen(int keys, int window, int query, int rows, int step) {
  const int begin = query > window ? (query - window) / step * step : 0, last = (keys - 1) / step * step;
  return {smaller(begin, last), smaller(keys, query + rows + window)};
}
inline bool sees_any(int keys, int window, int query) { return query - window < keys; }
