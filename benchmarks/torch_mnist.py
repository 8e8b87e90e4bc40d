"""Peer for the MNIST figures: the configuration of trainer/configs/mnist.toml in PyTorch, and its linear probe.

    python benchmarks/torch_mnist.py MNIST/train MNIST/test --seed 0 --threads 2

The folders hold one folder of images a class, as `patchstream convert` reads them. Prints one JSON line. `--weights`
skips the training and probes a checkpoint of ours instead, which tests features and probe apart from the training.
Needs torch, torchvision and safetensors; written from the paper (arXiv 2111.06377).
"""
import argparse, json, math, pathlib, time
import torch
from torch import nn
import torch.nn.functional as F
from torchvision.io import ImageReadMode, read_image

# As in trainer/configs/mnist.toml.
IMAGE_PX, PATCH_PX = 28, 4
WIDTH, DEPTH, HEADS = 192, 3, 6
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 64, 2, 4
BATCH, STEPS, LR, WARMUP, DECAY, BETAS = 64, 9000, 1.5e-3, 0.05, 0.05, (0.9, 0.95)
MASK_RATIO = 0.75
PATCHES = (IMAGE_PX // PATCH_PX) ** 2
VISIBLE = int(PATCHES * (1 - MASK_RATIO))


def sincos_2d(width, side):
    """(1 + side * side, width): zeros for the class token, then sines and cosines of column and of row."""
    frequency = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [f(p.reshape(-1, 1).double() * frequency) for p in (column, row) for f in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), torch.cat(parts, 1)])[None].float()


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH_PX, PATCH_PX)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class Mae(nn.Module):
    def __init__(self):
        super().__init__()
        side = IMAGE_PX // PATCH_PX
        self.patch_embed, self.cls_token = PatchEmbed(), nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(sincos_2d(WIDTH, side), requires_grad=False)
        self.blocks, self.norm = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(DEPTH)), nn.LayerNorm(WIDTH, eps=1e-6)
        self.decoder_embed = nn.Linear(WIDTH, DECODER_WIDTH)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, DECODER_WIDTH))
        self.decoder_pos_embed = nn.Parameter(sincos_2d(DECODER_WIDTH, side), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(Block(DECODER_WIDTH, DECODER_HEADS) for _ in range(DECODER_DEPTH))
        self.decoder_norm = nn.LayerNorm(DECODER_WIDTH, eps=1e-6)
        self.decoder_pred = nn.Linear(DECODER_WIDTH, PATCH_PX * PATCH_PX * 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(WIDTH, -1))
        nn.init.zeros_(self.patch_embed.proj.bias)

    def encode(self, images, keep=None):
        """(B, 1 + V, D); `keep` (B, V) are the visible patches, all of them without it."""
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, WIDTH))
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, images):
        """The loss on masked patches, with normalised targets."""
        b = len(images)
        order = torch.rand(b, PATCHES).argsort(1)
        keep, hidden = order[:, :VISIBLE].sort(1).values, order[:, VISIBLE:].sort(1).values
        x = self.decoder_embed(self.encode(images, keep))
        full = self.mask_token.expand(b, PATCHES, -1).clone()
        full = full.scatter(1, keep[:, :, None].expand(-1, -1, DECODER_WIDTH), x[:, 1:])
        x = torch.cat([x[:, :1], full], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        x = x[:, 1:].gather(1, hidden[:, :, None].expand(-1, -1, DECODER_WIDTH))
        predicted = self.decoder_pred(self.decoder_norm(x))
        side = IMAGE_PX // PATCH_PX
        patches = images.view(b, 3, side, PATCH_PX, side, PATCH_PX).permute(0, 2, 4, 3, 5, 1).reshape(b, PATCHES, -1)
        target = patches.gather(1, hidden[:, :, None].expand(-1, -1, patches.shape[-1]))
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        return F.mse_loss(predicted, (target - mean) / (variance + 1e-6).sqrt())


def load(folder):
    classes = sorted(path.name for path in pathlib.Path(folder).iterdir() if path.is_dir())
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((pathlib.Path(folder) / name).iterdir())]
    images = torch.stack([read_image(str(path), ImageReadMode.RGB) for path, _ in files])
    return images, torch.tensor([label for _, label in files])


def train(model, images, mean, std):
    decays = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decays, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS)
    warmup, order = round(WARMUP * STEPS), torch.empty(0, dtype=torch.long)
    for step in range(STEPS):
        if len(order) < BATCH:
            order = torch.randperm(len(images))
        batch, order = images[order[:BATCH]], order[BATCH:]
        batch = (batch.float() / 255 - mean) / std
        progress = (step - warmup) / max(STEPS - warmup, 1)
        rate = LR * (step + 1) / warmup if step < warmup else LR * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def features(model, images, mean, std, pool):
    out = []
    for batch in images.split(256):
        tokens = model.encode((batch.float() / 255 - mean) / std)
        parts = {"class": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}
        out.append(torch.cat(list(parts.values()), 1) if pool == "both" else parts[pool])
    return torch.cat(out).double()


def fit(x, y, l2, classes):
    """Softmax regression by L-BFGS: mean cross-entropy + l2 / 2 |W|^2; biases are free."""
    weight, bias = (torch.zeros(*shape, dtype=torch.double, requires_grad=True) for shape in ((classes, x.shape[1]), (classes,)))
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, history_size=10, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, y) + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return lambda x: x @ weight.detach().T + bias.detach()


def probe(train_x, train_y, test_x, test_y):
    """Top-1 on the test images; l2 is chosen on every tenth training image, held out."""
    mean, std = train_x.mean(0), train_x.var(0, unbiased=False).add(1e-5).sqrt()
    train_x, test_x, classes = (train_x - mean) / std, (test_x - mean) / std, int(train_y.max()) + 1
    held = torch.arange(len(train_x)) % 10 == 0
    accuracy = lambda model, x, y: (model(x).argmax(1) == y).double().mean().item()
    strengths = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    scores = [accuracy(fit(train_x[~held], train_y[~held], l2, classes), train_x[held], train_y[held]) for l2 in strengths]
    l2 = strengths[max(range(len(scores)), key=scores.__getitem__)]
    return accuracy(fit(train_x, train_y, l2, classes), test_x, test_y), l2


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("train"); arguments.add_argument("test")
    arguments.add_argument("--seed", type=int, default=0); arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--weights", help="weights.safetensors of a checkpoint, instead of training")
    a = arguments.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    (images, labels), (test_images, test_labels) = load(a.train), load(a.test)
    # `patchstream convert` lists mean and deviation of single pixels as well, from a sample.
    mean, std = images.float().mean() / 255, images.float().std() / 255
    model, start, cpu = Mae(), time.time(), time.process_time()
    report = dict(peer="torch", torch=torch.__version__, seed=a.seed)
    if a.weights:
        from safetensors.torch import load_file
        model.load_state_dict(load_file(a.weights))
    else:
        report["loss"] = train(model, images, mean, std)
        report |= dict(train_s=round(time.time() - start, 1), train_cpu_s=round(time.process_time() - cpu, 1))
    for pool in ("class", "mean", "both"):
        sets = [features(model.eval(), x, mean, std, pool) for x in (images, test_images)]
        report[f"top1_{pool}"], report[f"l2_{pool}"] = probe(sets[0], labels, sets[1], test_labels)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
