"""``facerec demo-app``: try a model in the browser."""

from __future__ import annotations

import click

from facerec.cli.options import auto_device_option, debug_option, model_option


@click.command("demo-app")
@model_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    default=8765,
    show_default=True,
    help="Port on this machine.",
)
@auto_device_option
@debug_option
def demo_app(model: str, port: int, device: str) -> None:
    """Serve a page on this machine that compares two pictures of aligned faces.

    A registered predictor also shows its thresholds and where a pair lies among those of its pair set. Nobody but this
    machine can reach the page, and no picture is kept.
    """
    from facerec.serving.demo.app import HOST, build_app, load_any, run_app

    app = build_app(load_any(model, device=device or "auto"), title=model)
    click.echo(f"open http://{HOST}:{port} in a browser; Ctrl-C stops", err=True)
    run_app(app, port=port)
