# BiGR-Lightning with all its extras, for CPUs or for NVIDIA GPUs.
#
#   docker build -t bigr .                                                       # for CPUs
#   docker build -t bigr:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .  # for GPUs
#
# Files are read from and written to the current folder, as the current user:
#
#   docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD:/work" bigr \
#       python -m bigr.train experiment=digits_autoencoder
#   docker run --rm -it --user "$(id -u):$(id -g)" -v "$PWD:/work" --gpus all --ipc=host bigr:cuda \
#       python -m bigr.train model=l data=codes data.root=codes
#
# Data loader workers share memory, for which --ipc=host or a larger --shm-size makes room.
FROM python:3.12-slim-bookworm

# torch.compile needs a compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Where to find PyTorch. The wheels of PyPI include CUDA, those of the default do not.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# PyTorch is by far the largest package and has a layer of its own, which changes of the code keep.
WORKDIR /src
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" \
        --extra-index-url https://pypi.org/simple torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" '.[all]'

# Any user may write caches to the home folder, so that --user works.
ENV HOME=/home/bigr
RUN mkdir -m 1777 /home/bigr /work
WORKDIR /work
CMD ["python", "-m", "bigr"]
