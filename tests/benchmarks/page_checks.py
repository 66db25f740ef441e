"""Every page that ftkit writes, made from tiny runs, looked at by Chromium: screens, and what axe-core finds.

    apt-get install chromium nodejs
    npm install --prefix /tmp/page-checks puppeteer-core axe-core
    python tests/benchmarks/page_checks.py --modules /tmp/page-checks --output_dir /tmp/pages

Takes a few minutes on two cores. OUT/screens/ has each page at 1280 and at 400 pixels, light and dark: look at them.
Exits with 1 where a page has a fault that axe-core calls serious or critical, asks the network for anything, is wider
than its screen, or holds text smaller than 11 pixels. Runs that OUT has already are kept.

The picture of README, of a longer run:

    ftkit sft --model_name_or_path base --dataset_name instructions --use_peft --lora_r 8 --template alpaca \\
        --learning_rate 1e-3 --max_steps 480 --per_device_train_batch_size 4 --eval_strategy steps --eval_steps 80 \\
        --logging_steps 10 --save_strategy no --before_after --output_dir instructions-lora
    python tests/benchmarks/page_checks.py --modules /tmp/page-checks --output_dir /tmp/pages \\
        --picture instructions-lora/report.html examples/images/report.png
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALLEST_TEXT, PICTURE_HEIGHT = 11, 1105  # pixels
SERIOUS = ("serious", "critical")
ROWS = {"rows": ("instructions", 57), "pairs": ("preferences", 38), "texts": ("corpus", 60)}  # file: data set, rows
TINY = "--model_name_or_path base --use_cpu --report_to none --logging_steps 1 --eval_strategy steps"
TUNED = f"{TINY} --test_size 0.2 --template alpaca --use_peft --lora_r 4"
TASKS = "--tasks refusal,instructions,forgetting --limit 30"
COMMANDS = {  # what each writes first: its command line
    "sft": f"sft {TUNED} --dataset_name rows.jsonl --max_steps 12 --eval_steps 3 --benchmark_tasks refusal",
    "dpo": f"dpo {TUNED} --dataset_name pairs.jsonl --max_steps 4 --eval_steps 2",
    "reward": f"reward {TUNED} --dataset_name pairs.jsonl --max_steps 4 --eval_steps 2",
    "pretrain": f"pretrain {TINY} --dataset_name texts.jsonl --test_size 0.1 --block_size 64 --max_steps 10 --eval_steps 5",
    "classify": f"classify {TINY} --dataset_name spam --max_length 64 --use_peft --max_steps 6 --eval_steps 3",
    "bench-before": f"bench --model_name_or_path base {TASKS}",
    "bench-after": f"bench --adapter sft {TASKS}",
}
SHOWN = ("raw", "messages", "rendered", "tokens", "mask", "packed")


def main() -> None:
    """Make the pages, look at them, or take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=Path, required=True, help="folder with puppeteer-core and axe-core")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for runs, pages and screens")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium", help="the browser")
    parser.add_argument("--picture", nargs=2, metavar=("PAGE", "PNG"), help="only take the picture of a page")
    args = parser.parse_args()
    if args.picture:
        screens = look(args, args.output_dir / "picture", [Path(args.picture[0])])
        crop(
            args.output_dir / "picture" / f"{screens[0]['page'].removesuffix('.html')}-1280-light.png", args.picture[1]
        )
        return
    faults = [
        fault
        for screen in look(args, args.output_dir / "screens", pages(args.output_dir))
        for fault in faults_of(screen)
    ]
    print("\n".join(faults) or f"no serious fault; look at {args.output_dir / 'screens'}")
    sys.exit(bool(faults))


def pages(folder: Path) -> list[Path]:
    """Every kind of page, each under a name of its own."""
    from ftkit.cli import dispatch

    made = (folder / "pages").resolve()
    made.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for name, (dataset, num_rows) in ROWS.items():
        lines = (ROOT / "datasets" / dataset / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        Path(f"{name}.jsonl").write_text("\n".join(lines[:: len(lines) // num_rows]) + "\n", encoding="utf-8")
    for name, line in COMMANDS.items():
        if not Path(name, "report.html").is_file():
            dispatch([*line.split(), "--output_dir", name])
        shutil.copy(Path(name, "report.html"), made / f"{name}.html")
    compared = "bench-before/results.json bench-after/results.json --forgetting forgetting --html"
    dispatch(["compare", *compared.split(), str(made / "verdict.html")])
    for stage in SHOWN:
        show = f"data show rows.jsonl --stage {stage} --model base --template alpaca --html"
        dispatch([*show.split(), str(made / f"show-{stage}.html")])
    return sorted(made.glob("*.html"))


def look(args, screens: Path, files: list[Path]) -> list[dict]:
    """Take the screens; return what was found on each."""
    screens.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_suffix(".mjs")
    command = ["node", script, args.modules.resolve(), args.chromium, screens, *files]
    printed = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.split("\n") if line]


def faults_of(screen: dict) -> list[str]:
    """What is wrong with a page on a screen; everything else that axe-core found is printed."""
    name = f"{screen['page']} at {screen['width']} px, {screen['scheme']}"
    found = [f"{name}: asks for {url}" for url in screen["requests"]]
    found += [f"{name}: {screen['overflow']} px too wide"] if screen["overflow"] > 0 else []
    found += [f"{name}: text of {screen['smallest']} px"] if screen["smallest"] < SMALLEST_TEXT else []
    for fault in screen["violations"]:
        line = f"{name}: {fault['impact']}: {fault['id']} ({fault['count']} times, such as {fault['nodes'][0]})"
        if fault["impact"] in SERIOUS:
            found.append(line)
        else:
            print(line)
    return found


def crop(screen: Path, path: str) -> None:
    """The upper part of a screen in few colours, as a small PNG."""
    from PIL import Image

    image = Image.open(screen).convert("RGB")
    image.crop((100, 0, image.width - 100, min(image.height, PICTURE_HEIGHT))).quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
