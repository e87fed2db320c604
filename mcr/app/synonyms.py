"""Words that people try, and what they are called here: data for the hints."""

# A key, or all keys of a pattern, to the word for it.
SYNONYMS = {
    # Habits of other programs.
    "seed": "replicate (a new number redraws every seed of training)",
    "seed_everything": "replicate (a new number redraws every seed of training)",
    "random_seed": "replicate (a new number redraws every seed of training)",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay, or fit.weight_decay for the path",
    "wd": "optimizer.weight_decay, or fit.weight_decay for the path",
    "eps": "attack.eps",
    "epsilon": "attack.eps",
    "attack.epsilon": "attack.eps",
    "norm": "attack.norm",
    "pgd_steps": "attack.steps",
    "model": "architecture",
    "model.*": "architecture.* of the architecture that is chosen",
    "arch": "architecture",
    "net": "architecture",
    "network": "architecture",
    "device": "runtime (runtime=cpu, runtime=gpu)",
    "gpu": "runtime=gpu",
    "gpus": "runtime=gpu runtime.devices=[0]",
    "cuda": "runtime=gpu",
    "accelerator": "runtime.accelerator",
    "devices": "runtime.devices",
    "threads": "runtime.threads",
    "num_workers": "runtime.threads (images stay in memory, nothing loads them beside)",
    "precision": "training.precision and evaluation.precision",
    "epochs": "training.epochs, or fit.epochs for the path",
    "max_epochs": "training.epochs, or fit.epochs for the path",
    "num_epochs": "training.epochs, or fit.epochs for the path",
    "batch_size": "training.batch_size",
    "data.batch_size": "training.batch_size",
    "trainer": "training and runtime",
    "trainer.max_epochs": "training.epochs, or fit.epochs for the path",
    "trainer.accelerator": "runtime.accelerator",
    "trainer.devices": "runtime.devices",
    "trainer.precision": "training.precision",
    "trainer.*": "training.* and runtime.*",
    "data": "dataset",
    "datamodule": "dataset",
    "data_dir": "dataset.root, or paths.data for data sets that are downloaded",
    "root": "dataset.root",
    "out_dir": "paths.root",
    "output_dir": "paths.root",
    "loss": "objective",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "trigger": "backdoor",
    "checkpoint": "endpoint@endpoints.start=checkpoint endpoints.start.path=FILE",
    "ckpt": "endpoint@endpoints.start=checkpoint endpoints.start.path=FILE",
    "ckpt_path": "endpoint@endpoints.start=checkpoint endpoints.start.path=FILE",
    "wandb": "logger (logger=wandb, logger=none)",
    "wandb.*": "logger.*",
    # Words of before: CHANGELOG.md.
    "pair": "ends",
    "tamper@*": "endpoint@endpoints.NAME=poisoned, +edit@endpoints.NAME.edits.EDIT=inject or ends=backdoored",
    "tampers*": "endpoint@endpoints.NAME=poisoned, +edit@endpoints.NAME.edits.EDIT=inject or ends=backdoored",
    "curve@reference": "reference@references.straight",
    "connection": "fit",
    "connection.*": "fit.*",
    "defense": "repair.budget",
    "defense.*": "repair.budget.*",
    "training.floor": "training.min_accuracy_over_chance",
    "endpoints.*.floor": "endpoints.*.min_accuracy_over_chance",
    "endpoints.*.ema_decay": "endpoints.*.module.ema_decay",
    "endpoints.*.validation_images": "endpoints.*.module.validation_images",
    "schedule.floor": "schedule.final_factor",
    "attack@evaluation.attack": "+attack@probes.robust.attack",
    "evaluation.attack.*": "probes.robust.attack.*",
    "evaluation.guard.*": "probes.stronger.*",
    "evaluation.relations.grid": "evaluation.group_grid",
    "evaluation.relations.images": "evaluation.group_images",
}


def synonym(word: str) -> str | None:
    """What a word is called here, if anybody would try it."""
    if word in SYNONYMS:
        return SYNONYMS[word]
    for tried, name in SYNONYMS.items():
        before, star, after = tried.partition("*")
        if star and word.startswith(before) and word.endswith(after) and len(word) > len(before + after):
            return name.replace("*", word[len(before) : len(word) - len(after)])
    return None
