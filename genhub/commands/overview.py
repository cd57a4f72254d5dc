"""The short help: the commands to begin with, and all others in groups."""

BEGIN = {
    "genhub models": "the published models, with their figures",
    "genhub generate gan-best": "64 images of one of them, into generated.png",
    "genhub train ddpm-quick": "train a diffusion model on the images that genhub brings along",
}
GROUPS = {
    "Published models": ("models", "generate", "figure", "page", "demo", "export"),
    "Your own": ("recipes", "train", "evaluate", "push"),
    "This machine": ("doctor", "completion"),
}


def overview(commands: dict[str, str]) -> str:
    """Returns the short help.

    Args:
        commands: command -> what it does.
    """
    lines = ["To begin:", *(f"  {command:25} {does}" for command, does in BEGIN.items())]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:11} {commands[name]}" for name in names)]
    return "\n".join([*lines, "", "genhub COMMAND --help explains a command, with examples.", ""])
