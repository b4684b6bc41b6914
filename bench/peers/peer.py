"""The other side of `cargo xtask peers`: PyTorch + transformers + peft, one training step at a time, on request.

Reads one JSON object per line on stdin and answers each with one on stdout:
  {"do": "load", "model", "config", "method", "precision", "tokens", "rank", "threads"}  builds a model with random
      weights from a Hugging Face config; answers with the versions and the attention implementation that is faster
  {"do": "step", "checkpointing": bool}       forward, backward, update, gradients dropped: {"seconds"}
  {"do": "saved", "checkpointing": bool, "attention": name or none}      bytes that autograd saves beside parameters, and those of them that are as
      wide as the vocabulary: {"bytes", "vocabulary_bytes"}
  {"do": "product", "size": [m, n, k], "transposed": bool, "precision", "threads", "repeats"}  x times W as a linear
      layer holds it, or as it lies: {"seconds"} of one
"""
import ctypes
import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Peer:
    def load(self, config, method, precision, tokens, rank, threads, **_):
        import peft
        import transformers

        torch.manual_seed(0)
        torch.set_num_threads(threads)
        dtype = DTYPES[precision]
        kind = config.pop("model_type")
        settings = transformers.AutoConfig.for_model(kind, **config)
        settings.use_cache = False
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=dtype)
        versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
        if method == "qlora":
            import bitsandbytes

            versions["bitsandbytes"] = bitsandbytes.__version__
            quantise(model, bitsandbytes, dtype)
        adapter = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear",
                                  fan_in_fan_out=kind == "gpt2", task_type="CAUSAL_LM")
        self.model = peft.get_peft_model(model, adapter, autocast_adapter_dtype=False)
        self.model.train()
        self.base = model
        self.vocabulary = settings.vocab_size
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)
        self.ids = torch.randint(0, self.vocabulary, (1, tokens))
        self.checkpointing = False
        seconds = {}
        for attention in ("eager", "sdpa"):
            model.set_attn_implementation(attention)
            seconds[attention] = min(self.step(False)["seconds"] for _ in range(3))
        self.attention = min(seconds, key=seconds.get)
        model.set_attn_implementation(self.attention)
        return {"versions": versions, "attention": self.attention, "seconds": seconds, "allocator": allocator()}

    def switch(self, checkpointing):
        if checkpointing == self.checkpointing:
            return
        if checkpointing:
            self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.base.gradient_checkpointing_disable()
        self.checkpointing = checkpointing

    def loss(self):
        return self.model(input_ids=self.ids, labels=self.ids).loss

    def step(self, checkpointing, **_):
        self.switch(checkpointing)
        start = time.perf_counter()
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.perf_counter() - start}

    def saved(self, checkpointing, attention=None, **_):
        self.switch(checkpointing)
        self.base.set_attn_implementation(attention or self.attention)
        own = {tensor.untyped_storage().data_ptr() for tensor in [*self.model.parameters(), *self.model.buffers()]}
        saved = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.nbytes() and storage.data_ptr() not in own:
                saved[storage.data_ptr()] = (storage, tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        wide = sum(storage.nbytes() for storage, shape in saved.values() if self.vocabulary in shape)
        total = sum(storage.nbytes() for storage, _ in saved.values())
        del loss
        self.base.set_attn_implementation(self.attention)
        return {"bytes": total, "vocabulary_bytes": wide}

    def product(self, size, transposed, precision, threads, repeats, **_):
        torch.set_num_threads(threads)
        m, n, k = size
        key = (tuple(size), transposed, precision)
        if getattr(self, "key", None) != key:
            dtype = DTYPES[precision]
            self.key, self.x = key, torch.randn(m, k).to(dtype)
            self.w = torch.randn(*((n, k) if transposed else (k, n))).to(dtype)
        w = self.w.t() if transposed else self.w
        self.x @ w
        start = time.perf_counter()
        for _ in range(repeats):
            self.x @ w
        return {"seconds": (time.perf_counter() - start) / repeats}


def quantise(model, bitsandbytes, dtype):
    """Replaces every linear but the head by bitsandbytes' NF4 with double quantisation."""
    for path, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or path.endswith("lm_head"):
            continue
        layer = bitsandbytes.nn.Linear4bit(module.in_features, module.out_features, bias=module.bias is not None,
                                           compute_dtype=dtype, compress_statistics=True, quant_type="nf4")
        layer.weight = bitsandbytes.nn.Params4bit(module.weight.data, requires_grad=False, compress_statistics=True,
                                                  quant_type="nf4").to("cpu")
        if module.bias is not None:
            layer.bias = module.bias
        layer.requires_grad_(False)
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    model.is_loaded_in_4bit = model.is_quantized = True


def allocator():
    return "tcmalloc" if hasattr(ctypes.CDLL(None), "MallocExtension_ReleaseFreeMemory") else "malloc"


def main():
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(peer, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
