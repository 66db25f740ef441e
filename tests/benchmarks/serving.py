"""C8 and C12: `ftkit serve` and its engine. Batch-1 decoding against `model.generate`; 8 adapters in one batch against one
at a time; memory of 100 adapters; requests a second against clients; and many clients for some minutes.

    python tests/benchmarks/run.py --only C8,C12
    python tests/benchmarks/serving.py --clients 64 --minutes 10        # writes section C12b

The server is a process of its own, asked through HTTP; adapters are LoRAs of random values.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import measuring
from measuring import Options

ADAPTERS, SLOTS, NEW_TOKENS, RANK = 8, 16, 64, 8
CROWD, CROWD_RANK = 100, 4  # adapters in memory at once
GPT2_TOKENS = 128  # of C8
SERVE, GENERATE, THEIRS = "ftkit serve", "ftkit generate", "model.generate"
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
PLOT = Path(__file__).with_name("serving.png")
QUESTION = [{"role": "user", "content": "Name three birds and say in one sentence what each of them eats."}]
MIB = 2**20


# Adapters and servers


def write_adapters(folder: Path, model_folder: str, number: int, rank: int) -> dict[str, str]:
    """Folders of so many adapters with random values, by name."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    from ftkit.model.loading import load_model

    first = folder / "a000"
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules="all-linear")
    get_peft_model(load_model(model_folder, dtype="float32"), config).save_pretrained(first)
    shapes = {name: tensor.shape for name, tensor in load_file(first / "adapter_model.safetensors").items()}
    found = {}
    for place in range(number):
        torch.manual_seed(place)
        target = folder / f"a{place:03}"
        target.mkdir(exist_ok=True)
        (target / "adapter_config.json").write_bytes((first / "adapter_config.json").read_bytes())
        tensors = {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
        save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
        found[target.name] = str(target)
    return found


@contextlib.contextmanager
def server(model: str, *flags: str, threads: int) -> Iterator[tuple[int, int]]:
    """(port, process id) of `ftkit serve`, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "ftkit",
        "serve",
        "--model",
        model,
        "--dtype",
        "float32",
        "--port",
        str(port),
        *flags,
    ]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            while True:
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{command}\n{log.read()[-3000:].decode()}")
                with contextlib.suppress(OSError):
                    if asked(port, "/health", method="GET")[0] == 200:
                        break
                time.sleep(0.3)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(timeout=60)


def asked(port: int, path: str, body: dict | None = None, method: str = "POST", connection=None) -> tuple[int, bytes]:
    """(status, body) of a request."""
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    given = json.dumps(body) if body is not None else None
    connection.request(method, path, given, {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


# C8: one answer at a time


def decoding(options: Options) -> str:
    """Batch-1 decoding of a 124M shape through the server against `model.generate`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from ftkit.inference.generation import generate_ids
    from ftkit.model.loading import load_tokenizer

    num = 8 if options.quick else GPT2_TOKENS
    layers = 2 if options.quick else 12
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(measuring.SEED)
        model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
        model.save_pretrained(name)
        tokenizer = load_tokenizer("gpt2")
        tokenizer.save_pretrained(name)

        def prompt() -> torch.Tensor:  # a new one each time: nothing of it has been kept
            return torch.randint(0, 50257, (1, 64))

        def theirs() -> None:
            ids = prompt()
            with torch.inference_mode():
                found = model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=num, min_new_tokens=num,
                    do_sample=False, pad_token_id=0,
                )  # fmt: skip
            assert found.shape[1] == ids.shape[1] + num

        with server(name, "--template", "none", threads=options.threads) as (port, _):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

            def ours() -> None:
                body = {"model": "base", "prompt": prompt()[0].tolist(), "max_tokens": num, "ignore_eos": True}
                status, found = asked(port, "/v1/completions", body | {"temperature": 0}, connection=connection)
                assert status == 200 and json.loads(found)["usage"]["completion_tokens"] == num, found

            def by_command() -> None:  # what ftkit generate and bench call
                asked_ids = prompt().tolist()
                (found,) = generate_ids(model, tokenizer, asked_ids, max_new_tokens=num, eos_token_ids=[])
                assert len(found) == num

            times = alternate({SERVE: ours, GENERATE: by_command, THEIRS: theirs}, options.rounds)
    ratios = [measuring.paired_ratio(times[THEIRS], times[side]) for side in (SERVE, GENERATE)]
    weights = sum(parameter.numel() for parameter in model.parameters()) * 4
    bound = bandwidth() / weights
    best = num / min(times[SERVE])
    rows = [[side, measuring.spread([num / one for one in seconds], digits=1)] for side, seconds in times.items()]
    return (
        f"A GPT-2 of {weights / 4e6:.0f}M parameters with random values, fp32, batch 1, {num} tokens after 64; the server "
        f"through HTTP, prompt and tokenizing included.\n\n{measuring.table(['', 'tokens/s'], rows)}\n\n"
        f"ftkit serve is {ratios[0]} times as fast as model.generate, ftkit generate {ratios[1]} times. Weights read once "
        f"for each token at the bandwidth of this minute allow {bound:.0f} tokens/s; the server's best round reached "
        f"{best / bound:.0%} of that."
    )


def alternate(methods: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each method in each round, in turns. Not `measuring.alternate`: a server's work is not this process's,
    so that a busy machine can't be told from it; run it with nothing else."""
    for step in methods.values():
        step()
    times, names = {name: [] for name in methods}, list(methods)
    for _ in range(rounds):
        for name in names:
            start = time.perf_counter()
            methods[name]()
            times[name].append(time.perf_counter() - start)
        names = names[1:] + names[:1]
    return times


def bandwidth(mib: int = 512) -> float:
    """Bytes a second that all threads together read, at best."""
    import torch

    data, best = torch.ones(mib * MIB // 4), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - start)
    return mib * MIB / best


# C12: adapters


def adapters_together(model: str, folder: Path, options: Options) -> str:
    """One answer by each of 8 adapters: in one batch, and one after another."""
    from ftkit.inference.asking import ModelSettings
    from ftkit.inference.batching.batcher import Batcher
    from ftkit.inference.batching.request import Limits

    num = 8 if options.quick else NEW_TOKENS
    adapters = write_adapters(folder, model, ADAPTERS, RANK)
    batcher = Batcher.load(
        ModelSettings(model, adapters=adapters, template="auto", dtype="float32"), Limits(SLOTS, prefix_gib=0)
    )
    try:
        names = list(adapters)
        methods = {
            "8 adapters, one batch": lambda: finish(batcher, names, num),
            "8 adapters, one at a time": lambda: [finish(batcher, [name], num) for name in names],
            "base, one batch of 8": lambda: finish(batcher, ["base"] * ADAPTERS, num),
            "1 adapter, one batch of 8": lambda: finish(batcher, names[:1] * ADAPTERS, num),
        }
        times = measuring.alternate(methods, options.rounds)
    finally:
        batcher.close()
    together, alone, base, same = times.values()
    rows = [
        [name, measuring.spread([ADAPTERS * num / one for one in found], digits=1)] for name, found in times.items()
    ]
    return (
        f"{Path(model).name}, fp32, LoRA r={RANK} on all linear layers, {num} tokens of each of {ADAPTERS} answers, "
        f"prompts included, through the engine.\n\n{measuring.table(['', 'tokens/s of all answers'], rows)}\n\n"
        f"8 adapters in one batch are {measuring.paired_ratio(alone, together)} times as fast as one at a time; against "
        f"the base alone in a batch as large they take {measuring.paired_ratio(together, base)} times as long, one "
        f"adapter for all {measuring.paired_ratio(same, base)} times."
    )


def finish(batcher, names: list[str], num: int) -> None:
    """An answer of so many tokens by each name, all begun together."""
    from ftkit.inference.batching.request import Drawing, Request

    ended = [threading.Event() for _ in names]
    for name, event in zip(names, ended, strict=True):
        with batcher.registry.pinned(name) as version:
            request = Request(version, version.voice.render(QUESTION), Drawing(max_new_tokens=num, ignore_eos=True))

        def on_event(one, event=event) -> None:
            if one.finish_reason is not None:
                event.set()

        batcher.submit(request, on_event)
    for event in ended:
        event.wait()


def crowd(model: str, folder: Path, quick: bool) -> list[tuple[int, float, float]]:
    """(adapters, MiB resident above the imports, MiB of weights and adapters) as they are loaded, in a fresh process."""
    number = 5 if quick else CROWD
    write_adapters(folder, model, number, CROWD_RANK)
    command = [sys.executable, __file__, "--child", model, str(folder), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def crowd_in_this_process(model: str, folder: Path, number: int) -> None:
    """Print what `crowd` returns."""
    import gc

    import torch

    from ftkit.inference.asking import ModelSettings
    from ftkit.inference.batching.batcher import Batcher
    from ftkit.inference.batching.request import Limits

    torch.ones(64, 64) @ torch.ones(64, 64)
    before = measuring.reset_peak()
    settings = ModelSettings(model, may_lack_template=True, dtype="float32")
    batcher = Batcher.load(settings, Limits(SLOTS, prefix_gib=0, adapter_gib=64))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in batcher.model.parameters()) / MIB
    finish(batcher, ["base"], 2)
    points, size = [(0, measuring.resident_mib("VmRSS") - before, weights)], 0
    for place in range(number):
        size += batcher.registry.load(f"a{place:03}", str(folder / f"a{place:03}")).num_bytes
        if (place + 1) % max(1, number // 10) == 0:
            finish(batcher, [f"a{place:03}"], 2)
            gc.collect()
            points.append((place + 1, measuring.resident_mib("VmRSS") - before, weights + size / MIB))
    batcher.close()
    print(json.dumps(points))


def requests_a_second(model: str, adapters: dict[str, str], options: Options) -> list[tuple[int, float, float, float]]:
    """(clients, answers a second, tokens a second, seconds that the median answer took)."""
    flags = [flag for name, path in list(adapters.items())[:3] for flag in ("--adapter", f"{name}={path}")]
    seconds, num, points = (1, 4, []) if options.quick else (15, 32, [])
    names = ["base", *list(adapters)[:3]]
    with server(model, *flags, "--num_slots", str(SLOTS), "--max_waiting", "64", threads=options.threads) as (port, _):
        for clients in CLIENTS[:3] if options.quick else CLIENTS:
            end, took, lock = time.perf_counter() + seconds, [], threading.Lock()

            def client(number: int, end=end, took=took, lock=lock) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
                body = {"model": names[number % 4], "messages": QUESTION, "max_tokens": num, "ignore_eos": True}
                while time.perf_counter() < end:
                    start = time.perf_counter()
                    status, found = asked(port, "/v1/chat/completions", body, connection=connection)
                    assert status == 200, found
                    with lock:
                        took.append(time.perf_counter() - start)

            start = time.perf_counter()
            together(client, clients)
            whole = time.perf_counter() - start
            points.append((clients, len(took) / whole, num * len(took) / whole, sorted(took)[len(took) // 2]))
            measuring.say(f"{clients} clients: {len(took) / whole:.2f} answers a second")
    return points


def together(work: Callable[[int], None], number: int) -> None:
    """Call `work` with 0, 1, ... in as many threads; raises what the first of them raised."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(work, range(number)))


def report(key: str, options: Options) -> str:
    """The section's body."""
    from ftkit.model.loading import find_bundled_smollm2, local_model_folder

    if key == "C8":
        return decoding(options)
    model = local_model_folder("base") if options.quick else local_model_folder(str(find_bundled_smollm2()))
    with tempfile.TemporaryDirectory() as name:
        body = adapters_together(model, Path(name, "few"), options)
        memory = crowd(model, Path(name, "many"), options.quick)
        adapters = {path.name: str(path) for path in sorted(Path(name, "few").iterdir())}
        speed = requests_a_second(model, adapters, options)
    if not options.quick:
        plot(memory, speed)
    number, resident, exact = memory[-1]
    of_base, due = memory[0][1], exact - memory[0][2]
    rows = [[clients, f"{rate:.2f}", f"{tokens:.0f}", f"{took:.2f}"] for clients, rate, tokens, took in speed]
    return (
        f"{body}\n\nMemory above the imports: {of_base:.0f} MiB with the base alone, {resident:.0f} with {number} adapters "
        f"(r={CROWD_RANK}, all linear layers, {due:.0f} MiB of tensors): {resident / (of_base + due):.3f} of the base and "
        f"their sizes.\n\nThrough `ftkit serve`, base and three adapters in turn, one request of each "
        f"client after another:\n\n{measuring.table(['clients', 'answers/s', 'tokens/s', 'median seconds'], rows)}\n\n"
        f"![Memory against adapters, and answers a second against clients]({PLOT.name})"
    )


def plot(memory: list, speed: list) -> None:
    """Memory against adapters, and answers a second against clients."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    numbers, resident, exact = zip(*memory, strict=True)
    left.plot(numbers, resident, marker="o", color="#1f6f8b", label="resident above the imports")
    left.plot(numbers, exact, color="#b5523b", linestyle="--", label="weights and adapters alone")
    left.set(xlabel="adapters in memory", ylabel="MiB", ylim=(0, None))
    clients, rates, *_ = zip(*speed, strict=True)
    right.plot(clients, rates, marker="o", color="#1f6f8b")
    right.set(xlabel="clients", ylabel="answers a second", xscale="log", ylim=(0, None))
    right.set_xticks(clients, list(map(str, clients)))
    left.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(PLOT)


# Many clients for some minutes


KINDS = ("chat", "stream", "completion", "left", "drawn")


class Soak:
    """What came back, and what the server's process held meanwhile."""

    def __init__(self, port: int, process: int, names: list[str]):
        self.port, self.process, self.names = port, process, names
        self.statuses, self.kinds, self.wrong = Counter(), Counter(), []
        self.memory: list[tuple[float, float]] = []
        self.lock = threading.Lock()

    def client(self, number: int, end: float) -> None:
        """Ask one thing after another until it is time."""
        draw = random.Random(number)
        while time.monotonic() < end:
            kind = draw.choice(KINDS)
            body = {"model": draw.choice(self.names), "max_tokens": draw.randint(1, 48), "temperature": 0}
            if kind == "drawn":
                body |= {"temperature": 1.0, "seed": draw.randrange(1000), "n": 2}
            if kind == "completion":
                body["prompt"] = "A bird is " * draw.randint(1, 20)
            else:
                body["messages"] = [{"role": "user", "content": "Name a bird. " * draw.randint(1, 20)}]
            if kind in ("stream", "left"):
                body["stream"] = True
            status, found = self.ask(kind, body)
            with self.lock:
                self.statuses[status] += 1
                self.kinds[kind] += status == 200
                if status not in (200, 429):
                    self.wrong.append((status, found[:300]))
            if status == 429:
                time.sleep(draw.uniform(0.5, 1.5))

    def ask(self, kind: str, body: dict) -> tuple[int, bytes]:
        """(status, body); a client of the kind "left" goes after the first piece of its stream."""
        path = "/v1/completions" if kind == "completion" else "/v1/chat/completions"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            found = answer.read(20) if kind == "left" and answer.status == 200 else answer.read()
        finally:
            connection.close()
        if kind == "stream" and answer.status == 200 and (b'"error"' in found or not found.endswith(b"[DONE]\n\n")):
            return 0, found[-300:]
        return answer.status, found

    def watch(self, start: float, end: float) -> None:
        """Note the memory of the server's process every few seconds."""
        while time.monotonic() < end:
            text = Path(f"/proc/{self.process}/status").read_text()
            resident = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
            self.memory.append((time.monotonic() - start, resident / 1024))
            time.sleep(min(5.0, (end - start) / 20))


def soak(args: argparse.Namespace) -> str:
    """Many clients that ask for different things, for some minutes."""
    from ftkit.model.loading import local_model_folder

    model = local_model_folder(args.model)
    with tempfile.TemporaryDirectory() as name:
        adapters = write_adapters(Path(name), model, 3, RANK)
        flags = [flag for adapter, path in adapters.items() for flag in ("--adapter", f"{adapter}={path}")]
        flags += ["--num_slots", str(SLOTS), "--max_waiting", str(args.clients // 2)]
        if args.template:
            flags += ["--template", args.template]
        with server(model, *flags, threads=args.threads) as (port, process):
            run = Soak(port, process, ["base", *adapters])
            start = time.monotonic()
            end = start + 60 * args.minutes
            watching = threading.Thread(target=run.watch, args=(start, end))
            watching.start()
            together(lambda number: run.client(number, end), args.clients)
            watching.join()
            health = asked(port, "/health", method="GET")[0]
    warm = [size for after, size in run.memory if 12 * args.minutes <= after <= 18 * args.minutes]  # 20 to 30 %
    late = [size for after, size in run.memory if after >= 54 * args.minutes]  # the last tenth
    growth = sum(late) / len(late) / (sum(warm) / len(warm)) - 1
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in run.kinds.items())
    statuses = ", ".join(f"{number:,} of {status}" for status, number in sorted(run.statuses.items()))
    assert not run.wrong and health == 200, run.wrong[:5]
    return (
        f"{Path(model).name}, base and 3 adapters, {SLOTS} slots, {args.clients} clients for {args.minutes:g} minutes, which "
        f"ask for chats, streams, completions and seeded pairs, or leave after the first piece. Statuses: {statuses} "
        f"(answered: {kinds}). Resident memory of the server in the last tenth against the time from 20 to 30 %: "
        f"{growth:+.1%} (peak {max(size for _, size in run.memory):.0f} MiB)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--template", help="of the model; its own without it")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=measuring.RESULTS, help="the file whose section is replaced")
    parser.add_argument(
        "--quick", action="store_true", help="6 clients on the bundled model for 6 seconds; writes nothing"
    )
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.child:
        model, folder, number = args.child
        return crowd_in_this_process(model, Path(folder), int(number))
    if args.quick:
        args.clients, args.minutes, args.model, args.template = 6, 0.1, "base", "alpaca"
    body = soak(args)
    print(body)
    if not args.quick:
        command = f"    python tests/benchmarks/serving.py --clients {args.clients} --minutes {args.minutes:g}"
        text = f"{command}\n\n{body}\n\n{measuring.machine(args.threads)}"
        measuring.write_section(
            "C12b", f"{args.clients} clients of ftkit serve for {args.minutes:g} minutes", text, args.output
        )


if __name__ == "__main__":
    main()
