# The image of the worker and of every other `rsafe` command.
#
#   make image                   CPU     docker build -t rsafe-stream .
#   make image VARIANT=gpu       GPU     docker build -t rsafe-stream:gpu --build-arg EXTRA=gpu \
#                                                     --build-arg LOCK=requirements/gpu.lock .
#
# BASE may carry a digest (python:3.12-slim@sha256:…), which makes the base reproducible. The build takes
# no secrets. A mirror of the package index is given by the builder's own UV_DEFAULT_INDEX, not here.

ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG EXTRA=cpu
ARG LOCK=requirements/cpu.lock
# A further extra of pyproject.toml: `train` for the image of the trainer.
ARG MORE=
# A ready wheel of rsafe-stream inside the context (such as dist/rsafe_stream-0.1.0-py3-none-any.whl);
# empty: it is built from the sources.
ARG WHEEL=
# Certificates: those that the base trusts, as pip does, so that a proxy of a company works without more settings.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/uv.txt
# The lock also holds what tests and training need. So: which of its pins does the worker need, then exactly those.
# `--require-hashes` refuses a package for which the lock has no hash.
RUN uv venv --python "$(command -v python)" /opt/rsafe \
 && uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra "${EXTRA}" \
      ${MORE:+--extra "${MORE}"} \
      --constraints "${LOCK}" --output-file /build/runtime.txt pyproject.toml \
 && uv pip install --python /opt/rsafe/bin/python --no-deps --require-hashes --constraints "${LOCK}" \
      --requirements /build/runtime.txt
# The tool that lists the packages; it stays behind in this stage.
RUN uv venv --quiet --python "$(command -v python)" /build/sbom \
 && uv pip install --quiet --python /build/sbom/bin/python --require-hashes --requirements requirements/sbom.txt
RUN if [ "${EXTRA}" = cpu ]; then \
      cd /opt/rsafe/lib/python3*/site-packages \
      && grep --invert-match '^#' /build/requirements/idle_on_cpu.txt \
         | while read -r pattern; do rm -rf -- ${pattern}; done ; \
    fi
COPY . .
RUN if [ -z "${WHEEL}" ]; then uv build --quiet --wheel --out-dir /build/wheels . ; \
    else mkdir -p wheels && cp "${WHEEL}" wheels/ ; fi \
 && uv pip install --python /opt/rsafe/bin/python --no-deps wheels/*.whl \
 && /build/sbom/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
      --output-file /build/python.cdx.json /opt/rsafe/bin/python

FROM ${BASE}
ARG EXTRA=cpu
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="rsafe-stream" \
      org.opencontainers.image.description="Streaming moderation for chat: Kafka in, an RSafe guard on vLLM, decisions out" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# vLLM's kernels for the CPU are linked to libnuma and libgomp. On a GPU vLLM compiles kernels when it starts, which
# takes a C++ compiler; on the CPU nothing is compiled.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libnuma1 libgomp1 \
 && if [ "${EXTRA}" = gpu ]; then apt-get install --yes --no-install-recommends g++ libc6-dev; fi \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 1000 rsafe \
 && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin rsafe
COPY --from=build /opt/rsafe /opt/rsafe
COPY --from=build /build/python.cdx.json /build/requirements/sbom.py /tmp/sbom/
RUN python /tmp/sbom/sbom.py /tmp/sbom/python.cdx.json /opt/rsafe/sbom.cdx.json "${VERSION}" && rm -r /tmp/sbom
# The root file system may be read-only: everything that a library wants to write goes below /tmp.
# The hub is never asked: a checkpoint is a folder.
ENV PATH=/opt/rsafe/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config \
    HF_HOME=/tmp/huggingface \
    HF_HUB_OFFLINE=1 \
    VLLM_CACHE_ROOT=/tmp/vllm \
    VLLM_CONFIG_ROOT=/tmp/vllm-config \
    VLLM_NO_USAGE_STATS=1 \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RSAFE_HEALTH__HOST=0.0.0.0
USER 1000:1000
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["rsafe"]
CMD ["worker"]
