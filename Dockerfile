# mmqsa and Snakemake; docs/container.md says how to run it. mmqsa.def is the same for Apptainer.
#   docker build --tag mmqsa .                                                        for a CPU
#   docker build --tag mmqsa:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .   with CUDA
FROM python:3.11-slim-bookworm

# This index has wheels of torch for a CPU, and pip prefers them; those of PyPI bring CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Dependencies first: their layer stays while only code changes.
WORKDIR /opt/mmqsa
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['workflow'], sep='\n')" > requirements.txt && \
    pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .

# With docker run --user "$(id -u):$(id -g)" the user has no home and no name, and Snakemake asks for both.
ENV HOME=/tmp USER=mmqsa
RUN useradd --uid 1000 mmqsa && install --directory --owner mmqsa /work
USER 1000
WORKDIR /work
ENTRYPOINT ["mmqsa"]
CMD ["--help"]
