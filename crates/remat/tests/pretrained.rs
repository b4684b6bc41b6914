//! A pretrained model in a loop of one's own: text while it trains, its adapter and its full weights written and read again.

use remat::{AdamWSettings, BatchShape, Error, LoraConfig, Method, Model, Options, Step};

const TOKENS: usize = 24;

fn model(family: &str) -> Model {
    let folder = format!("{}/../../fixtures/parity/{family}", env!("CARGO_MANIFEST_DIR"));
    Model::from_pretrained(folder).expect("a model")
}

fn text() -> Vec<i32> {
    (0..TOKENS as i32).map(|i| i * 7 % 40).collect()
}

fn step(model: &Model, method: &Method) -> Result<Step, Error> {
    let options = Options::new().adamw(AdamWSettings::default()).generation(TOKENS).threads(1).seed(1);
    let mut step = model.training_step(method, BatchShape { batch: 1, seq_len: TOKENS }, options)?;
    let mut targets = text()[1..].to_vec();
    targets.push(-100);
    step.set_input("ids", &text())?;
    step.set_input("targets", &targets)?;
    Ok(step)
}

fn train(step: &mut Step, updates: usize) -> Vec<f32> {
    let each = |_| {
        let loss = step.run_scaled(1.0 / (TOKENS - 1) as f32).expect("runs");
        step.update(2e-2).expect("updates");
        loss
    };
    (0..updates).map(each).collect()
}

#[test]
fn a_model_says_what_it_has_learnt_and_training_does_not_notice() {
    for family in ["llama-gqa-tied", "gpt2"] {
        let model = model(family);
        let lora = Method::Lora(LoraConfig { rank: 8, alpha: 16.0, ..LoraConfig::default() });
        let [mut asked, mut alone] = [(); 2].map(|()| step(&model, &lora).expect("compiles"));
        let prompt = &text()[..4];
        let before = asked.generate(prompt, TOKENS - 4).expect("generates");
        let mut losses = Vec::new();
        for _ in 0..40 {
            asked.generate(prompt, 2).expect("generates");
            losses.extend(train(&mut asked, 1));
        }
        assert_eq!(losses, train(&mut alone, 40), "{family}");
        let after = asked.generate(prompt, TOKENS - 4).expect("generates");
        let right = |tokens: &[i32]| tokens.iter().zip(&text()[4..]).filter(|(a, b)| a == b).count();
        assert!(right(&after) > 10 + right(&before), "{family}: {} {}", right(&before), right(&after));
        assert!(asked.generate(prompt, TOKENS - 3).is_err() && asked.generate(&[], 1).is_err());
    }
}

#[test]
fn adapters_and_full_models_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = model("llama-gqa-tied");
    let lora = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    let mut trained = step(&base, &Method::Lora(lora.clone())).expect("compiles");
    train(&mut trained, 3);
    let adapter = folder.path().join("adapter");
    base.save_adapter(&trained, &lora, &adapter).expect("writes");
    let config = base.adapter_config(&adapter).expect("an adapter");
    let mut again = step(&base, &Method::Lora(config)).expect("compiles");
    base.load_adapter(&mut again, &adapter).expect("fits");
    assert_eq!(again.run().expect("runs").to_bits(), trained.run().expect("runs").to_bits());
    let error = base.save_model(&trained, folder.path().join("model")).expect_err("an adapter");
    assert_eq!(error.to_string(), "this step trains an adapter: write it with Model::save_adapter");

    let mut full = step(&base, &Method::Full).expect("compiles");
    train(&mut full, 3);
    let saved = folder.path().join("model");
    base.save_model(&full, &saved).expect("writes");
    let mut again = step(&Model::from_pretrained(&saved).expect("a model"), &Method::Full).expect("compiles");
    assert_eq!(again.run().expect("runs").to_bits(), full.run().expect("runs").to_bits());
    let error = base.save_model(&full, &saved).expect_err("exists");
    assert!(error.to_string().ends_with("exists; choose another folder, or remove it yourself"), "{error}");
}
