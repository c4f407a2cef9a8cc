"""Wrong input to the entry points, and a part of the sentence that answers it."""

from __future__ import annotations

DIGITS = "experiment=digits_autoencoder"
START = "task.init_from=g.safetensors"
MODELS = "generator=g.safetensors autoencoder=a.safetensors"

UNREADABLE = [
    ("trainer.max_step=5", "trainer.max_step: there is no such key. Did you mean trainer.max_st"),
    ("trianer.max_steps=5", "trianer.max_steps: there is no such key. Did you mean trainer.max_"),
    ("modle=l", "modle: there is no such key. Did you mean model"),
    ("model=xxxl", "model=xxxl: there is no such option. Did you mean xxl"),
    ("experiment=digit_generator", "Did you mean digits_generator"),
    ("model=l", "still needed: data.root"),
    ("model.dim=[", "cannot read 'model.dim=['"),
]
TRAIN = [
    ("data.image_size=32", "data.image_size=32, but the model has 16: choose resolution=16"),
    (
        "data=digits_codes data.root=codes data.code_dim=6 data.num_classes=5",
        "task=autoencoder learns images, but this data module provides codes",
    ),
    ("data.flip=maybe", "data.flip must be true or false, got 'maybe'"),
    ("task.recompute_activations=maybe", "task.recompute_activations must be true or false, got"),
    ("task.optimizer.betas=[2,3]", "task.optimizer or task.lr_scheduler: Invalid beta parameter"),
    ("task.optimizer.weight_decay=nan", "task.optimizer.weight_decay must be a number, got nan"),
    ("task.lr_scheduler.final_factor=nan", "lr_scheduler.final_factor must be a number, got nan"),
    ("callbacks.checkpoint.every_minutes=nan", "every_minutes must be a positive number or null"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches must be a positive integer, a"),
    (
        "trainer.val_check_interval=100000 trainer.check_val_every_n_epoch=1",
        "trainer.val_check_interval=100000, but an epoch has only 22 batches: set",
    ),
    ("trainer.max_epochs=0", "trainer.max_epochs must be positive, or -1 for no limit, got 0"),
    ("data.batch_size=1000000000000", "1437 samples do not fill one batch of 1000000000000: lower"),
    ("logger=null", "logger=null: logger can be csv, tensorboard, wandb, or [] for none."),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be a number of at least 0"),
    ("logger=[]", "logger=[]: callbacks.lr_monitor needs a logger. Choose one, such as logger=csv"),
    ("autoencoder.code_dim=many", "autoencoder.code_dim must be a"),
    (
        "+autoencoder.foo=1",
        "autoencoder.foo: there is no such key. BinaryAutoencoderConfig takes",
    ),
    (
        "trainer.max_steps=10 task.lr_scheduler.warmup_steps=20",
        "below total_steps=10, which is trainer.max_steps: lower task.lr_scheduler.warmup_steps",
    ),
    ("trainer.max_steps=ten", "trainer.max_steps must be an integer of at least -1, got 'ten'"),
    ("trainer.precision=17", "trainer.precision must be one of"),
    ("trainer=gpu", "trainer.accelerator=gpu, but PyTorch finds no CUDA GPU"),
    ("trainer.accelerator=mps", "trainer.accelerator=mps is not supported"),
    ("trainer.num_nodes=4", "start the command on every node with srun"),
    ("trainer.val_check_interval=0", "trainer.val_check_interval must be above 0 or null, got 0"),
    ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps must be a positive integer"),
    ("trainer.accumulate_grad_batches=null", "accumulate_grad_batches must be a positive integer"),
    ("trainer.devices=1.5", "trainer.devices must be"),
    ("trainer.enable_progress_bar=maybe", "enable_progress_bar must be true or false or null"),
    ("data.batch_size=0", "batch_size must be a positive integer, got 0"),
    ("data.batch_size=null", "data.batch_size must be a"),
    ("data.num_workers=null", "data.num_workers must be an integer"),
    ("task.optimizer.lr=fast", "task.optimizer.lr must be a number or a Tensor, got 'fast'"),
    ("task.optimizer.lr=nan", "task.optimizer.lr must be a number or a Tensor, got nan"),
    ("task.optimizer.lr=null", "task.optimizer.lr must be a number or a Tensor, got null"),
    ("task.optimizer.fused=maybe", "task.optimizer.fused must be true or false or null, got 'may"),
    ("+task.optimizer.learning_rate=1", "task.optimizer.learning_rate: there is no such key"),
    ("+callbacks.mine._target_=my_lab.Nothing", "my_lab.Nothing: there is no such class or funct"),
    ("seed=-1", "seed must be an integer of at least 0, got -1"),
    ("seed=null", "seed must be an integer of at least 0, got null"),
    ("seed=1.5", "seed must be an integer of at least 0, got 1.5"),
    ("seed=true", "seed must be an integer of at least 0, got true"),
    ("global_batch_size=0", "global_batch_size must be a positive integer or null, got 0"),
    ("optimized_metric=3", "optimized_metric must be a string or null, got 3"),
    ("resume=nowhere.ckpt", "resume=nowhere.ckpt: there is no such file"),
    ("resume=true", "resume must be auto, a string or null, got true"),
    ("hydra.run.dir=run", "already holds a run: add resume=auto"),
]
OTHERS = [
    ("train", "experiment=digits_generator", "set task.autoencoder to a B-AE that encodes them"),
    (
        "train",
        "experiment=digits_generator model.num_heads=5",
        "dim=96 and num_heads=5 do not fit",
    ),
    (
        "train",
        "experiment=digits_generator callbacks.sample_grid.num_classes=-3",
        "callbacks.sample_grid.num_classes must be a positive integer, got -3",
    ),
    (
        "train",
        "experiment=digits_gan task.gan.optimizer.betas=[2,3]",
        "task.optimizer or task.lr_scheduler: Invalid beta parameter at index 0: 2",
    ),
    ("train", "data=images data.root=nowhere trainer=cpu", "data.root=nowhere: there is no such"),
    ("train", "data=codes data.root=nowhere trainer=cpu", "data.root=nowhere: there is no such"),
    (
        "train",
        "data=codes data.root=codes autoencoder=d32 trainer=cpu",
        "autoencoder=d32: this makes codes with code_dim 32, but the given codes or B-AE have 6",
    ),
    (
        "train",
        "task.autoencoder=a.safetensors data.root=. resolution=512 trainer=cpu",
        "resolution=512: this makes codes with grid_size 32, but the given codes or B-AE have 4",
    ),
    (
        "train",
        "data=codes data.root=codes alignment=repa trainer=cpu",
        "task.alignment needs codes with features: create them with python -m bigr.tokenize",
    ),
    (
        "train",
        "data=codes data.root=codes data.features=true trainer=cpu",
        "data.root=codes has no features: create the codes with python -m bigr.tokenize features=",
    ),
    ("fit", "", "still needed: images (the folder with your images"),
    ("fit", "images=nowhere", "images=nowhere: there is no such file or folder"),
    ("fit", "images=codes", "images=codes has no images to train with"),
    ("fit", "images=codes size=huge", "size must be one of auto, small, large, got 'huge'"),
    ("fit", "images=codes generator_steps=0", "generator_steps must be a positive integer"),
    ("train", "data=mnist trainer=cpu", "data.root (the folder with the files of MNIST"),
    ("train", "data.val_share=1 data.root=. trainer=cpu", "data.val_share must be a number"),
    (
        "tokenize",
        "data=images data.root=nowhere autoencoder=a.safetensors output=o",
        "data.root=nowhere: there is no such file or folder",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o batch_size=null",
        "batch_size must be a positive integer, got null",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o seed=null",
        "seed must be an integer of at least 0, got null",
    ),
    *(
        ("sample", f"application=inpaint application.image=x.png {words} {MODELS}", message)
        for words, message in (
            ("application.num_variants=1.5", "num_variants must be a positive integer, got 1.5"),
            ("application.num_variants=abc", "num_variants must be a positive integer, got 'abc'"),
            ("application.num_variants=null", "num_variants must be a positive integer, got null"),
            ("application.num_variants=0", "num_variants must be a positive integer, got 0"),
            ("application.mask=5", "application.mask must be a string, a path, an Image"),
            ("application.class_name=1.5", "class_name must be an integer, a string or null, got"),
            ("application.image=null", "application.image must be a string, a path, an Image"),
            (
                "application.known_bits=sampled",
                "application.known_bits must be drawn or likelier, got 'sampled'",
            ),
            ("application.mask=true", "application.mask must be a string, a path, an Image"),
            ("application.mask=[[a,b,c,d]]", "each value is an integer or null, got [['a', 'b'"),
        )
    ),
    (
        "sample",
        f"application=interpolate application.first=null application.second=1 {MODELS}",
        "application.first must be an integer or a string, got null",
    ),
    (
        "sample",
        f"application=enrich application.image=x.png application.num_rounds=1e8 {MODELS}",
        "application.num_rounds must be a positive integer, got 100000000.0",
    ),
    (
        "sample",
        f"application=enrich application.image=x.png application.num_rounds=abc {MODELS}",
        "application.num_rounds must be a positive integer, got 'abc'",
    ),
    *(
        (
            "sample",
            f"application=interpolate application.first=0 application.second=1 {words} {MODELS}",
            message,
        )
        for words, message in (
            ("application.ratios=abc", "application.ratios must be"),
            ("application.ratios=5", "application.ratios must be"),
        )
    ),
    ("sample", f"application.classes=[true] {MODELS}", "an integer, a string or null, got [true]"),
    ("sample", f"seed=null {MODELS}", "seed must be an integer of at least 0, got null"),
    ("sample", f"sampler._target_=null {MODELS}", "sampler._target_ must be a string, got null"),
    ("sample", f"sampler.guidance_scale=nan {MODELS}", "guidance_scale must be a number of at "),
    ("sample", f"sampler.num_iterations=1e12 {MODELS}", "num_iterations must be a positive integ"),
    *(
        (command, f"{words} sampler.{name} {MODELS}", f"sampler.{name}: it must be at most 1,000,0")
        for name in ("guidance_scale=1e+300", "num_iterations=1000000000000")
        for command, words in (("sample", ""), ("evaluate", "evaluation=digits"))
    ),
    ("sample", f"sampler.order=spiral {MODELS}", "sampler.order must be one of confidence, random"),
    *(
        ("evaluate", f"evaluation=imagenet reference=a.npz {words} {MODELS}", message)
        for words, message in (
            (
                "evaluation.reference=null",
                "real images to compare with are needed: add reference=…",
            ),
            ("evaluation.reference=3", "evaluation.reference must be a string or null, got 3"),
            (
                "evaluation.count=0",
                "evaluation.count must be an integer of at least 2 or null, got 0",
            ),
            ("evaluation.batch_size=0", "evaluation.batch_size must be a positive integer, got 0"),
            ("evaluation.batch_size=null", "evaluation.batch_size must be a positive integer"),
            ("evaluation.chunk_size=0", "evaluation.chunk_size must be a positive integer, got 0"),
            ("evaluation.chunk_size=null", "evaluation.chunk_size must be a positive integer"),
            ("evaluation.seed=-1", "evaluation.seed must be an integer of at least 0, got -1"),
            ("evaluation.seed=null", "evaluation.seed must be an integer of at least 0, got null"),
            ("evaluation.save_images=maybe", "evaluation.save_images must be true or false, got"),
        )
    ),
    (
        "evaluate",
        f"evaluation=edits data=digits evaluation.count=0 {MODELS}",
        "evaluation.count must be a positive integer, got 0",
    ),
    ("evaluate", f"evaluation=digits device=meta {MODELS}", "device=meta: it can be auto, cpu, cu"),
    (
        "evaluate",
        f"evaluation=digits paths.output=null {MODELS}",
        "paths.output must be a string, g",
    ),
    ("demo", "device=meta", "device=meta: it can be auto, cpu, cuda"),
    ("demo", "device=mps", "Apple's MPS and Intel's XPU are not supported"),
    ("train", "experiment=digits", "views: there is no such key in bigr.train"),
    *(
        ("train", f"experiment=finetune trainer=cpu data=codes data.root=codes {words}", message)
        for words, message in (
            ("", "model=pretrained takes the sizes of task.init_from: set it as well."),
            (
                "task.init_from=nowhere",
                "task.init_from=nowhere: nowhere is neither a folder, nor a",
            ),
            ("task.init_from=a.safetensors", "a.safetensors is a B-AE"),
            (f"{START} model=digits", "dim=128, num_layers=4, num_heads=4"),
            (
                f"{START} task.freeze=[heads]",
                "task.freeze: no parameter has a name like heads. The",
            ),
            (f"{START} task.train=[heads]", "task.train: no parameter has a name like heads. The "),
            (
                f"{START} task.freeze=['*']",
                "task.freeze and task.train leave no parameter to train",
            ),
            (
                f"{START} task.lora.rank=0",
                "task.lora.rank must be a positive integer or null, got 0",
            ),
            (f"{START} task.lora.rank=999", "task.lora.rank=999 is larger than"),
            (
                f"{START} task.lora.rank=2 task.lora.targets=[heads]",
                "no linear layer has the name heads",
            ),
            (
                f"{START} task.class_rows={{0:ant}}",
                "classes of task.init_from: class 'ant': this g",
            ),
            (f"{START} task.class_rows=old", "task.class_rows must be"),
            (
                f"{START} task.optimizer.layer_decay=0",
                "task.optimizer.layer_decay must be a number",
            ),
            (f"{START} task.reset_code_layers=3", "task.reset_code_layers must be"),
        )
    ),
    *(
        ("train", f"trainer=cpu data=codes data.root=codes {words}", message)
        for words, message in (
            (
                "model=pretrained",
                "model=pretrained takes the sizes of task.init_from: set it as well",
            ),
            (
                "model=digits task.lora.rank=2",
                "rank=2 needs a trained generator: set task.init_f",
            ),
        )
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=a.safetensors model.code_dim=7",
        "makes codes with code_dim 6, but model.code_dim is 7",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=g.safetensors",
        "is a generator (the format of this project), but a B-AE is needed here",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=nowhere.th",
        "nowhere.th",
    ),
    (
        "tokenize",
        "experiment=digits",
        "still needed: autoencoder (a released .th file, or a .safetensors or .ckpt file of this "
        "project) and output",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o num_draws=0",
        "num_draws must be a positive integer, got 0",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=null",
        "output must be a string, got null",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o splits=[test]",
        "splits must be ",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o deterministic=maybe",
        "deterministic must be true or false, got 'maybe'",
    ),
    ("tokenize", "task=generator", "task: there is no such key. All keys: python -m bigr.tokenize"),
    (
        "sample",
        "",
        "a model is needed: add pretrained=… or generator=… and autoencoder=…. pretrained=digits",
    ),
    ("sample", "generator=g.safetensors autoencoder=junk.pt", "junk.pt is not a checkpoint"),
    ("sample", "generator=no.pt autoencoder=junk.pt", "generator=no.pt: there is no such file"),
    ("sample", "pretrained=no", "no is neither a folder, nor a hub repository such as haoosz/BiGR"),
    ("sample", "pretrained=outputs/demo", "there is no outputs/demo. pretrained=digits is a small"),
    ("sample", "generator=null autoencoder=junk.pt", "generator must be a string, got null"),
    ("sample", MODELS, "class 207: this generator has the classes 0..2"),
    ("sample", f"{MODELS} batch_size=null", "batch_size must be a positive integer, got null"),
    ("sample", f"{MODELS} batch_size=1.5", "batch_size must be a positive integer, got 1.5"),
    ("sample", f"{MODELS} device=meta", "device=meta: it can be auto, cpu, cuda"),
    ("sample", f"{MODELS} device=null", "device must be a string, got null"),
    ("sample", f"{MODELS} settings=nowhere.json", "settings=nowhere.json: there is no such file"),
    (
        "sample",
        f"{MODELS} settings=junk.pt",
        "settings=junk.pt: these are not the settings of pictures: give a ZIP, a PNG or a",
    ),
    (
        "sample",
        f"{MODELS} settings=junk.pt seed=3",
        "settings=… already contains this value: leave out seed=3",
    ),
    ("demo", "host=", "host must be a non-empty string, got ''"),
    ("demo", "embedded_in=[example.org]", "it must be an address such as https://huggingface.co"),
    ("demo", "allowed_hosts=lab", "allowed_hosts must be a list in which each value is a string"),
    ("demo", "auth=3", "auth must be a string or null, got 3"),
    ("sample", f"{MODELS} devices=0", "devices must be an integer between 1 and 1024, got 0"),
    ("sample", f"{MODELS} num_nodes=2", "num_nodes=2, but nothing says which node this is"),
    ("sample", f"{MODELS} animate=maybe", "animate must be true or false, got 'maybe'"),
    (
        "sample",
        f"application=edit {MODELS}",
        "still needed: application.image (a picture of any size; the centre square is edited) "
        "and application.class_name (the class to paint, as a number or a name)",
    ),
    ("sample", f"application=inpaint application.image=no.png {MODELS}", "there is no file no.png"),
    (
        "sample",
        f"application=interpolate application.first=0 application.second=tabby {MODELS}",
        "class 'tabby': this generator has no names for its classes, 0..2",
    ),
    ("sample", f"application=enrich application.image=x devices=2 {MODELS}", "2 processes"),
    ("sample", f"sampler.order=entropy {MODELS}", "sampler.order must be"),
    ("sample", f"{MODELS} device=cuda", "device=cuda cannot"),
    (
        "evaluate",
        f"evaluation=digits {MODELS}",
        "evaluation=digits needs a generator with 10 classes, but this one has 3",
    ),
    (
        "evaluate",
        f"evaluation=digits confirm=0 {MODELS}",
        "confirm must be a positive integer or n",
    ),
    ("evaluate", "", "real images to compare with are needed: add reference=…"),
    ("evaluate", "evaluation=digits", "this evaluation needs a generator: add generator=…"),
    ("evaluate", "evaluation=digits_fidelity", "there are no images to compare: add samples=…"),
    (
        "evaluate",
        "evaluation=digits_fidelity samples=digits evaluation.count=400",
        "samples=digits has 360 images, but evaluation.count=400: evaluation.count=null uses all",
    ),
    ("evaluate", "evaluation=digits_fidelity samples=no.npz", "samples=no.npz: there is no such f"),
    ("evaluate", f"evaluation=digits_fidelity samples=digits {MODELS}", "exclude each other"),
    (
        "evaluate",
        "evaluation=digits_fidelity samples=digits evaluation.count=null evaluation.repeats=2",
        "evaluation.repeats needs a generator",
    ),
    (
        "evaluate",
        "evaluation=digits_fidelity evaluation.repeats=2147483648",
        "evaluation.repeats must be an integer between 1 and 1000, got 2147483648",
    ),
    (
        "evaluate",
        "evaluation=digits_fidelity against=digits",
        "against=… is compared with sample",
    ),
    ("evaluate", "reference=x evaluation.network=dinov", "Did you mean dinov2"),
    ("evaluate", "reference=x evaluation.network=resnet18", "needs evaluation.weights=…, a file"),
    ("evaluate", "evaluation=dinov2 reference=x", "evaluation.network=dinov2 needs dinov2_vitl14"),
    ("evaluate", f"evaluation=digits samples=x {MODELS}", "samples=x has no effect on this evalu"),
    ("evaluate", "evaluation=digit", "evaluation=digit: there is no such option. Did you mean dig"),
    ("evaluate", "task=autoencoder", "task=autoencoder has been renamed: use evaluation=reconstr"),
    ("evaluate", "application=inpaint", "application=inpaint has been renamed: use evaluation=edi"),
    ("demo", "port=0", "port must be an integer between 1 and 65535, got 0"),
    ("demo", "open_browser=maybe", "open_browser must be true or false, got 'maybe'"),
    ("demo", "limits.iterations=null", "limits must be"),
    ("probe", "data=digits generator=g.safetensors seed=null", "seed must be an integer of at le"),
]
