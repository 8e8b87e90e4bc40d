//! Every operation's backward pass against finite differences of its forward pass.

use crate::backend::{Done, Index};
use crate::config::Target;
use crate::cpu::CpuBackend;
use crate::graph::{Graph, Value};
use crate::kernels::attention::Shape;
use crate::kernels::testing::{in_pools, values};
use crate::memory::{Buffer, Pool};
use crate::operations::{Linear, Norm};

const STEP: f32 = 1e-2;

type CpuValue = Value<CpuBackend>;

fn pool() -> Pool<CpuBackend> {
    Pool::new(CpuBackend::default())
}

fn buffer(pool: &Pool<CpuBackend>, values: &[f32]) -> Buffer<CpuBackend> {
    let mut buffer = pool.alloc(values.len()).expect("memory for a few values");
    buffer.copy_from_slice(values);
    buffer
}

fn inputs(pool: &Pool<CpuBackend>, lengths: &[usize]) -> Vec<CpuValue> {
    let make = |(seed, &length): (usize, &usize)| Value::new(buffer(pool, &values(length, seed as u32)));
    lengths.iter().enumerate().map(make).collect::<Result<_, _>>().expect("memory for a few values")
}

/// Gradients of `sum(output * upstream)` by each input, by the tape, and the same by differences of the forward pass.
/// Twice the gradient is asked for from a half that is already there, so that adding is tested beside setting.
fn check(
    lengths: &[usize],
    operation: impl Fn(&mut Graph<CpuBackend>, &[CpuValue]) -> Done<CpuBackend, CpuValue> + Sync,
) {
    let by_tape = in_pools(|| {
        let pool = pool();
        let inputs = inputs(&pool, lengths);
        let parameters: Vec<&CpuValue> = inputs.iter().collect();
        let mut gradients = Vec::new();
        for _ in 0..2 {
            let mut graph = Graph::recording(&pool, &parameters, gradients).expect("a tape");
            let y = operation(&mut graph, &inputs).expect("a forward pass");
            let upstream = buffer(&pool, &values(y.len(), 99));
            graph.record("sum", 0, move |_, grads| y.give_gradient(grads, upstream));
            gradients = graph.backward(&parameters).expect("a backward pass");
        }
        gradients.iter().flat_map(|gradient| gradient.iter().map(|g| g / 2.0)).collect()
    });

    let pool = pool();
    let mut inputs = inputs(&pool, lengths);
    let mut by_differences = Vec::new();
    for (input, &length) in lengths.iter().enumerate() {
        for at in 0..length {
            let mut total = |change: f32| {
                let kept = inputs[input][at];
                inputs[input].get_mut()[at] += change;
                let y = operation(&mut Graph::forward_only(&pool), &inputs).expect("a forward pass");
                inputs[input].get_mut()[at] = kept;
                let upstream = values(y.len(), 99);
                y.iter().zip(upstream).map(|(&y, u)| f64::from(y) * f64::from(u)).sum::<f64>()
            };
            by_differences.push((total(STEP) - total(-STEP)) / f64::from(2.0 * STEP));
        }
    }
    assert_eq!(by_tape.len(), by_differences.len());
    let largest = by_differences.iter().fold(0.0f64, |high, d| high.max(d.abs()));
    for (at, (&tape, difference)) in by_tape.iter().zip(by_differences).enumerate() {
        let error = (f64::from(tape) - difference).abs();
        assert!(error < 3e-3 * largest, "gradient {at} of {lengths:?}: {tape}, by differences {difference}");
    }
}

fn linear(inputs: &[CpuValue]) -> Linear<CpuBackend> {
    Linear { weight: inputs[1].clone(), bias: inputs[2].clone() }
}

fn index() -> Index<CpuBackend> {
    // Two images of five patches, the visible ones out of order.
    Index {
        images: 2,
        visible_patches: 2,
        masked_patches: 3,
        visible: [4, 1, 0, 3].into(),
        masked: [0, 2, 3, 4, 1, 2].into(),
    }
}

#[test]
fn linear_matches_differences() {
    check(&[7 * 5, 3 * 5, 3], |graph, inputs| graph.linear(&inputs[0], &linear(inputs)));
}

#[test]
fn linear_onto_a_residual_matches_differences() {
    check(&[7 * 5, 3 * 5, 3, 7 * 3], |graph, inputs| graph.linear_onto(&inputs[3], &inputs[0], &linear(inputs)));
}

#[test]
fn gelu_matches_differences() {
    check(&[50], |graph, inputs| graph.gelu(&inputs[0]));
}

#[test]
fn layer_norm_matches_differences() {
    check(&[6 * 20, 20, 20], |graph, inputs| {
        let norm = Norm { weight: inputs[1].clone(), bias: inputs[2].clone() };
        graph.layer_norm(&inputs[0], &norm)
    });
}

#[test]
fn attention_matches_differences() {
    check(&[2 * 7 * 3 * 8], |graph, inputs| graph.attention(&inputs[0], Shape { tokens: 7, heads: 2, width: 8 }));
}

#[test]
fn embed_matches_differences() {
    let pool = pool();
    let positions = Value::new(buffer(&pool, &values(6 * 4, 50))).expect("memory for a few values");
    check(&[2 * 2 * 4, 4], |graph, inputs| graph.embed(&inputs[0], &inputs[1], &positions, &index()));
}

#[test]
fn unshuffle_and_pick_match_differences() {
    let pool = pool();
    let positions = Value::new(buffer(&pool, &values(6 * 4, 50))).expect("memory for a few values");
    check(&[2 * 3 * 4, 4], |graph, inputs| graph.unshuffle(&inputs[0], &inputs[1], &positions, &index()));
    check(&[2 * 6 * 4], |graph, inputs| graph.pick_masked(&inputs[0], 4, &index()));
    check(&[2 * 6 * 4], |graph, inputs| graph.add_positions(&inputs[0], &positions));
}

#[test]
fn masked_error_matches_differences() {
    let pool = pool();
    for target in [Target::Pixels, Target::NormalizedPatches] {
        let pixels = Value::new(buffer(&pool, &values(3 * 12, 7))).expect("memory for a few values");
        let mut predicted = inputs(&pool, &[3 * 12]).remove(0);
        let gradient = {
            let mut graph = Graph::recording(&pool, &[&predicted], Vec::new()).expect("a tape");
            let mut loss = buffer(&pool, &[0.0]);
            graph.masked_error(target, 12, &predicted, &pixels, (&mut loss, 0.5)).expect("a loss");
            graph.backward(&[&predicted]).expect("a backward pass").remove(0)
        };
        for at in 0..gradient.len() {
            let mut loss = |change: f32| {
                let kept = predicted[at];
                predicted.get_mut()[at] += change;
                let mut graph = Graph::forward_only(&pool);
                let mut loss = buffer(&pool, &[0.0]);
                graph.masked_error(target, 12, &predicted, &pixels, (&mut loss, 1.0)).expect("a loss");
                predicted.get_mut()[at] = kept;
                loss[0]
            };
            let difference = 0.5 * (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            assert!((gradient[at] - difference).abs() < 1e-4, "{target:?} at {at}: {} and {difference}", gradient[at]);
        }
    }
}
