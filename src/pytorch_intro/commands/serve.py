"""Serve a finished run: a web page and a REST API on this computer."""

from omegaconf import DictConfig

from pytorch_intro.cli.entrypoint import entrypoint
from pytorch_intro.inference.finished_run import resolve_run

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@entrypoint("serve", resolvers={"resolve_run": resolve_run})
def main(config: DictConfig) -> None:
    from pytorch_intro.common.errors import check_installed

    check_installed("serving", PACKAGES, "serve")

    from pytorch_intro.config.paths import display_path
    from pytorch_intro.inference.finished_run import FinishedRun
    from pytorch_intro.serving.app import build_app
    from pytorch_intro.serving.server import listen, serve, url_of
    from pytorch_intro.serving.settings import check_settings, open_service

    limits = check_settings(config)
    with listen(config.host, config.port) as listener:
        run = FinishedRun(config.run_dir, config.allow)
        with open_service(run, config, limits) as service:
            print(f"serving {display_path(run.path)} at {url_of(listener)} (Ctrl-C stops)", flush=True)
            serve(build_app(service), listener, limits.seconds)
