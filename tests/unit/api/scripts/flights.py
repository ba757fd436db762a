"""Written for wandb: a data set is logged, cleaned, used for a small model, linked, downloaded and verified.

The test changes the import and nothing else.
"""

import argparse
import csv
import json
import os
import statistics
from pathlib import Path

import wandb

PROJECT = "vega"


def log_raw(folder: str) -> None:
    with wandb.init(project=PROJECT, job_type="upload", config={"source": "vega_datasets"}) as run:
        raw = wandb.Artifact(
            name="vega-raw",
            type="dataset",
            description="Small data sets of the Vega project, as they come",
            metadata={"source": run.config["source"], "files": sorted(os.listdir(folder))},
        )
        raw.add_dir(folder)
        run.log_artifact(raw, aliases=["raw", "2026"])
        raw.wait()
        print("raw", raw.version, raw.file_count, raw.size)


def log_raw_again(folder: str) -> None:
    run = wandb.init(project=PROJECT, job_type="upload")
    raw = wandb.Artifact("vega-raw", type="dataset")
    raw.add_dir(folder)
    logged = run.log_artifact(raw).wait()
    print("again", logged.version)
    run.finish()


def clean() -> None:
    with wandb.init(project=PROJECT, job_type="clean") as run:
        raw = run.use_artifact("vega-raw:latest", type="dataset")
        root = Path(raw.download())
        cars = [car for car in json.loads((root / "cars.json").read_text()) if car["Horsepower"]]

        cleaned = wandb.Artifact("cars-clean", type="dataset", metadata={"rows": len(cars)})
        with cleaned.new_file("cars.csv", mode="w") as file:
            writer = csv.DictWriter(file, fieldnames=list(cars[0]))
            writer.writeheader()
            writer.writerows(cars)
        cleaned.add_file(str(root / "iris.json"), name="more/iris.json")
        run.log_artifact(cleaned, aliases=["ready"])
        print("clean", cleaned.wait().name, len(cars))


def train(epochs: int) -> None:
    with wandb.init(project=PROJECT, job_type="train", config={"epochs": epochs, "lr": 0.5}) as run:
        data = run.use_artifact("cars-clean:ready")
        path = data.get_entry("cars.csv").download()
        with open(path) as file:
            rows = [(float(row["Horsepower"]), float(row["Weight_in_lbs"])) for row in csv.DictReader(file)]
        x = [horsepower for horsepower, _ in rows]
        y = [weight for _, weight in rows]
        slope, intercept = 0.0, statistics.mean(y)
        exact = statistics.linear_regression(x, y)
        for epoch in range(run.config.epochs):
            slope += run.config["lr"] * (exact.slope - slope)
            intercept += run.config["lr"] * (exact.intercept - intercept)
            loss = statistics.mean((b - slope * a - intercept) ** 2 for a, b in rows)
            run.log({"loss": loss, "epoch": epoch})
        run.summary["slope"] = slope

        os.makedirs("model", exist_ok=True)
        with open("model/weights.json", "w") as file:
            json.dump({"slope": slope, "intercept": intercept}, file)
        model = wandb.Artifact("cars-model", type="model", metadata=dict(run.config))
        model.add_file("model/weights.json")
        logged = run.log_artifact(model, aliases=["candidate"])
        logged.wait()
        run.link_artifact(logged, target_path="wandb-registry-model/Cars", aliases=["staging"])
        print("model", logged.history_step, logged.metadata["epochs"])


def look() -> None:
    api = wandb.Api(overrides={"project": PROJECT})
    model = api.artifact("wandb-registry-model/Cars:staging", type="model")
    print("link", model.is_link, model.source_name, model.version)
    run = model.logged_by()
    print("made by", run.job_type, [used.name for used in run.used_artifacts()])
    clean = api.artifact(f"{PROJECT}/cars-clean:latest")
    print("used by", [user.job_type for user in clean.used_by()])
    print("versions", [version.name for version in api.artifacts("dataset", f"{PROJECT}/vega-raw")])
    print("exists", api.artifact_exists(f"{PROJECT}/cars-clean:ready"), api.artifact_exists(f"{PROJECT}/nothing:v0"))
    print("files", [file.name for file in clean.files()])
    print("collection", model.collection.name, model.source_artifact.collection.name)


def change() -> None:
    artifact = wandb.Api().artifact(f"{PROJECT}/cars-clean:latest")
    draft = artifact.new_draft()
    draft.remove("more")
    draft.add_file("model/weights.json")
    draft.save(project=PROJECT)
    draft.wait()
    print("changed", draft.version, sorted(draft.manifest.entries))
    old = wandb.Api().artifact(f"{PROJECT}/cars-clean:v0")
    old.aliases.append("first")
    old.tags = ["kept"]
    old.description = "before the change"
    old.save()
    print("old", sorted(wandb.Api().artifact(f"{PROJECT}/cars-clean:first").aliases))


def check(folder: str) -> None:
    artifact = wandb.Api().artifact(f"{PROJECT}/vega-raw:2026")
    root = artifact.download(root="copy")
    artifact.verify(root=root)
    names = sorted(os.listdir(folder))
    same = all(Path(folder, name).read_bytes() == Path(root, name).read_bytes() for name in names)
    print("copy", names == sorted(os.listdir(root)), same)
    Path(root, "cars.json").write_text("spoiled")
    try:
        artifact.verify(root)
    except ValueError:
        print("spoiled copy found")
    artifact.checkout(root)
    artifact.verify(root)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    log_raw(options.folder)
    log_raw_again(options.folder)
    clean()
    train(options.epochs)
    look()
    change()
    check(options.folder)


if __name__ == "__main__":
    main()
