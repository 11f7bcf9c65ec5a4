# Two stages: the first has pip and the index, the second only what runs: a Python, the sidecar and its libraries.
#
#   docker build --tag agent-sre-sidecar:0.1.0 .
#   docker run --read-only --publish 127.0.0.1:4140:4140 … (deploy/compose shows all of it)
#
# For builds that repeat themselves to the byte, give the base by its digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/sidecar

# The libraries first: this layer is built again only when pyproject.toml changes.
WORKDIR /src
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > libraries.txt \
    && python -m pip --python /opt/sidecar/bin/python install --requirement libraries.txt

COPY LICENSE README.md ./
COPY sidecar ./sidecar
RUN python -m pip --python /opt/sidecar/bin/python install --no-deps .
COPY deploy/probe.py /opt/sidecar/bin/probe


FROM ${PYTHON_IMAGE}

LABEL org.opencontainers.image.title="agent-sre-sidecar" \
      org.opencontainers.image.description="SRE for AI agents, in the data path of their LLM, MCP and A2A calls" \
      org.opencontainers.image.licenses="MIT"

# Nothing that installs anything is left in the image; /run/sidecar is the one folder that the sidecar writes to.
RUN python -m pip uninstall --yes --root-user-action=ignore pip \
    && rm -rf /usr/local/lib/python3*/ensurepip \
    && install --directory --owner=65532 --group=65532 --mode=0700 /run/sidecar

COPY --from=build /opt/sidecar /opt/sidecar
COPY config/sidecar.yaml /etc/sidecar/sidecar.yaml

ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_RUNTIME_DIR=/run/sidecar

# A number, because Kubernetes' runAsNonRoot cannot look a name up. Nobody else has it.
USER 65532:65532
WORKDIR /run/sidecar
EXPOSE 4140
STOPSIGNAL SIGTERM

# Asks the admin port on the container's own loopback: the same program that the probes of Kubernetes run.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["python", "-IS", "/opt/sidecar/bin/probe", "/readyz"]

ENTRYPOINT ["sidecar"]
CMD ["run", "--config", "/etc/sidecar/sidecar.yaml"]
