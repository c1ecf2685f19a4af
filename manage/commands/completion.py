"""`completion SHELL`: the script that teaches a shell our verbs and options. Bash, zsh, fish, PowerShell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from manage.exits import CliError, Exit

PROGRAM = "manage_pipeline.py"
VARIABLE = "_MANAGE_PIPELINE_COMPLETE"
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName @('manage_pipeline.py', 'manage-pipeline') -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $program = $commandAst.CommandElements[0].ToString()
    $env:COMP_WORDS = $commandAst.ToString()
    $env:COMP_CWORD = $wordToComplete
    $env:%s = 'fish_complete'
    & $program 2>$null | ForEach-Object {
        $kind, $value = $_ -split ',', 2
        $value = ($value -split "`t", 2)[0]
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $value)
    }
    Remove-Item Env:COMP_WORDS, Env:COMP_CWORD, Env:%s
}
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    source <(manage_pipeline.py completion bash)
    manage_pipeline.py completion fish > ~/.config/fish/completions/manage_pipeline.py.fish
    """
    click.echo(script(shell))


def script(shell: str) -> str:
    """The script; it calls the program again for each completion."""
    if shell == "powershell":
        return _POWERSHELL % (VARIABLE, VARIABLE)
    found = get_completion_class(shell)
    if found is None:
        raise CliError(f"click knows no completion for {shell}", exit_code=Exit.USAGE)
    from manage.cli import cli

    return found(cli, {}, PROGRAM, VARIABLE).source()
