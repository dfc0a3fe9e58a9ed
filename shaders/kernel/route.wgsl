// The K best of N experts of a row, best first, ties to the lowest index, and what each counts (plan::Route).
// a: the router's numbers; b: the choice, as f32; out: weights. Views. weight: added to scores to choose by [N];
// bias: factors of the experts' weights [N]. SCORE 0: softmax, 1: sigmoid, 2: the numbers themselves, weights are a
// softmax over the chosen, 3: plan::Score::Mixer. GROUPS 0: none.
// An expert is chosen if fewer than K come before it: every lane counts that for its own experts. Comparisons are those of
// keys, so that what is no number has a place in the order, too, and K different experts are chosen of any numbers.
// One workgroup of WG lanes per row; grid (1, rows). Scalar twin: src/cpu/route.rs, in f64.
struct Route {
    a: View,
    idx: View,
    w: View,
    // Groups that are chosen from.
    used: u32,
    has_bias: u32,
    has_own: u32,
    renorm: u32,
    eps: f32,
    scale: f32,
    // Relative distance of what is near, of the mixer.
    limit: f32,
    pad: u32,
}
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<uniform> p: Route;

// Experts of a group.
const GROUP_LEN = N / max(GROUPS, 1u);

var<workgroup> scores: array<f32, N>;
// What is chosen by, as bits; then its key.
var<workgroup> keys: array<u32, N>;
var<workgroup> group_keys: array<u32, max(GROUPS, 1u)>;
var<workgroup> chosen: array<u32, K>;
var<workgroup> weights: array<f32, K>;

// Scores become a softmax. In uniform control flow.
fn softmax(lane: u32) {
    var top = scores[0];
    for (var i = 1u; i < N; i++) {
        top = max(top, scores[i]);
    }
    workgroupBarrier();
    for (var i = lane; i < N; i += WG) {
        scores[i] = exp(max(scores[i] - top, -80.0));
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < N; i++) {
        sum += scores[i];
    }
    workgroupBarrier();
    for (var i = lane; i < N; i += WG) {
        scores[i] /= sum;
    }
}

// A group's score: its best, or with sigmoid its two best together.
fn group_score(group: u32) -> f32 {
    var first = -3e38;
    var second = -3e38;
    for (var i = group * GROUP_LEN; i < (group + 1u) * GROUP_LEN; i++) {
        let x = bitcast<f32>(keys[i]);
        if (x > first) {
            second = first;
            first = x;
        } else if (x > second) {
            second = x;
        }
    }
    return select(first, first + second, SCORE == 1u && GROUP_LEN > 1u);
}

// Experts of other groups than the best cannot be chosen any more, or have a score of nothing. In uniform control flow.
fn keep_best(lane: u32) {
    for (var g = lane; g < GROUPS; g += WG) {
        group_keys[g] = key(bitcast<u32>(group_score(g)));
    }
    workgroupBarrier();
    for (var i = lane; i < N; i += WG) {
        let own = i / GROUP_LEN;
        var rank = 0u;
        for (var g = 0u; g < GROUPS; g++) {
            rank += select(0u, 1u, before(group_keys[g], g, group_keys[own], own));
        }
        if (rank >= p.used) {
            // The bits of the least of numbers, and of 0.
            keys[i] = select(0u, 0xff7fffffu, SCORE == 1u);
        }
    }
}

// What the chosen expert r counts before renormalisation.
fn share(r: u32) -> f32 {
    if (SCORE != 2u) {
        return weights[r];
    }
    var top = weights[0];
    for (var i = 1u; i < K; i++) {
        top = max(top, weights[i]);
    }
    var sum = 0.0;
    for (var i = 0u; i < K; i++) {
        sum += exp(max(weights[i] - top, -80.0));
    }
    return exp(max(weights[r] - top, -80.0)) / sum;
}

// The sum of what is near to the chosen expert r among those that come behind it; its own part is 1.
fn mixed(r: u32) -> f32 {
    let top = weights[r];
    var sum = 0.0;
    for (var i = 0u; i < N; i++) {
        let is_gone = r > 0u && i == chosen[0];
        let is_far = top - scores[i] > p.limit * max(abs(scores[i]), top);
        if (!is_gone && !is_far) {
            sum += exp(max(scores[i] - top, -80.0));
        }
    }
    return 1.0 / sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y;
    for (var i = lane; i < N; i += WG) {
        let x = a[at(p.a, row, i)];
        scores[i] = select(x, sigmoid(x), SCORE == 1u);
    }
    workgroupBarrier();
    if (SCORE == 0u) {
        softmax(lane);
        workgroupBarrier();
    }
    for (var i = lane; i < N; i += WG) {
        var by = scores[i];
        // The order is the same, and far numbers stay apart that round to one score.
        if (GROUPS == 0u && p.has_bias == 0u) {
            by = a[at(p.a, row, i)];
        }
        if (p.has_bias != 0u) {
            by += weight[i];
        }
        keys[i] = bitcast<u32>(by);
    }
    workgroupBarrier();
    if (GROUPS != 0u) {
        keep_best(lane);
        workgroupBarrier();
    }
    for (var i = lane; i < N; i += WG) {
        keys[i] = key(keys[i]);
    }
    workgroupBarrier();
    for (var i = lane; i < N; i += WG) {
        let own = keys[i];
        var rank = 0u;
        for (var e = 0u; e < N; e++) {
            rank += select(0u, 1u, before(keys[e], e, own, i));
        }
        if (rank < K) {
            chosen[rank] = i;
            weights[rank] = scores[i];
        }
    }
    workgroupBarrier();
    for (var r = lane; r < K; r += WG) {
        b[at(p.idx, row, r)] = f32(chosen[r]);
        if (SCORE == 3u) {
            out[at(p.w, row, r)] = mixed(r);
            continue;
        }
        var w = share(r);
        if (p.renorm != 0u) {
            var sum = p.eps;
            for (var i = 0u; i < K; i++) {
                sum += share(i);
            }
            w /= sum;
        }
        if (p.has_own != 0u) {
            w *= bias[chosen[r]];
        }
        out[at(p.w, row, r)] = w * p.scale;
    }
}
