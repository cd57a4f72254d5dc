# genhub for the command line:  docker build -t genhub . && docker run --rm -v "$PWD:/work" genhub train ddpm-quick
# With an NVIDIA GPU:           docker build -t genhub --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 --build-arg TORCH=cuda .
ARG BASE=python:3.13-slim-bookworm
FROM ${BASE}
ARG TORCH=cpu
ARG EXTRAS=eval,figures,text

# An image of CUDA has no Python, one of Python has its own
RUN command -v python3 >/dev/null && python3 -c "import venv, ensurepip" 2>/dev/null || \
    (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/genhub
ENV PATH=/opt/genhub/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /src
COPY constraints.txt ./
RUN if [ "$TORCH" = cpu ]; then index="--index-url https://download.pytorch.org/whl/cpu"; fi && \
    pip install $index "$(grep '^torch==' constraints.txt)"
COPY . .
RUN pip install --constraint constraints.txt ".[$EXTRAS]"

RUN useradd --create-home --uid 10001 genhub && mkdir /work && chown genhub /work
USER genhub
WORKDIR /work
ENTRYPOINT ["genhub"]
CMD ["--help"]
