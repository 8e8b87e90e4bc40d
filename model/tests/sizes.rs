//! What sizes a model may have, and what follows from them.

use patchstream_model::parameters::sincos_2d;
use patchstream_model::{EncoderInput, MaeConfig, Preset, TransformerConfig};

mod support;

use support::config;

#[test]
fn sizes_that_do_not_fit_are_refused_with_what_would_do() {
    let check = |change: fn(&mut MaeConfig), message: &str, hint: Option<&str>| {
        let mut config = config();
        change(&mut config);
        let error = config.validate().expect_err(message);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.hint().as_deref(), hint);
    };
    check(
        |c| c.image_width_px = 20,
        "image_width_px of 20 px is not a multiple of the patch of 8 px",
        Some("try 16 or 24 px"),
    );
    check(|c| c.patch_px = 0, "patch_px is 0, expected at least 1", None);
    check(
        |c| c.encoder.heads = 5,
        "encoder width 24 is not divisible by 5 (its heads)",
        Some("the next width that works is 25"),
    );
    check(
        |c| c.decoder = TransformerConfig { width: 18, depth: 1, heads: 2 },
        "decoder width 18 is not divisible by 4 (sine and cosine of two axes)",
        Some("the next width that works is 20"),
    );
    check(
        |c| c.mlp_ratio = f64::NAN,
        "mlp_ratio NaN gives the encoder no hidden layer between 1 and 524288 wide",
        None,
    );
    check(|c| c.encoder.depth = usize::MAX, "depth is 18446744073709551615, expected at most 1024", None);
    assert!("vit_mikro".parse::<Preset>().is_err());
}

#[test]
fn presets_are_valid_and_as_large_as_published() {
    for name in Preset::names() {
        name.parse::<Preset>().expect("a listed name").config().validate().expect("a valid preset");
    }
    assert_eq!(Preset::VitBase.config().parameter_count(), 111_655_680);
    assert_eq!(Preset::VitLarge.config().parameter_count(), 329_239_296);
}

#[test]
fn positions_of_an_oblong_grid_follow_the_formula() {
    let (width, rows, columns) = (24, 3, 2);
    let table = sincos_2d(width, rows, columns);
    assert!(table[..width].iter().all(|&value| value == 0.0));
    for row in 0..rows {
        for column in 0..columns {
            let patch = &table[(1 + row * columns + column) * width..][..width];
            for i in 0..6 {
                let frequency = 10000f64.powf(-(i as f64) / 6.0);
                let expected =
                    [column, row].map(|at| [(at as f64 * frequency).sin(), (at as f64 * frequency).cos()]).concat();
                for (part, expected) in expected.into_iter().enumerate() {
                    assert!((f64::from(patch[part * 6 + i]) - expected).abs() < 1e-7);
                }
            }
        }
    }
}

#[test]
fn mask_tokens_in_the_encoder_cost_what_the_sizes_say() {
    let visible = Preset::VitTiny.config();
    let all = MaeConfig { encoder_input: EncoderInput::WithMaskTokens, ..visible.clone() };
    assert_eq!(visible.encoder_tokens(49), 50);
    assert_eq!(all.encoder_tokens(49), 197);
    let ratio = all.flops_per_image(49) as f64 / visible.flops_per_image(49) as f64;
    assert!((2.5..3.5).contains(&ratio), "{ratio}");
    let mask_token = |config: &MaeConfig| {
        let table = config.parameters();
        table.iter().find(|parameter| parameter.name == "mask_token").expect("a mask token").shape.clone()
    };
    assert_eq!((mask_token(&visible), mask_token(&all)), (vec![1, 1, 128], vec![1, 1, 192]));
}
